package kernel

import (
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/vr"
	"vrgate/xfrm"
)

// espEncryption and espIntegrity translate IKE's numbers into those of package xfrm.
var (
	espEncryption = map[ike.ESPCipher]xfrm.Encryption{
		ike.ESPDES: xfrm.DES, ike.ESP3DES: xfrm.TripleDES, ike.ESPAESCBC: xfrm.AESCBC, ike.ESPAESGCM: xfrm.AESGCM16,
	}
	espIntegrity = map[ike.ESPAuth]xfrm.Integrity{
		ike.ESPAuthNone: xfrm.IntegrityNone, ike.ESPAuthMD5: xfrm.MD5, ike.ESPAuthSHA1: xfrm.SHA1, ike.ESPAuthSHA256: xfrm.SHA256,
		ike.ESPAuthSHA384: xfrm.SHA384, ike.ESPAuthSHA512: xfrm.SHA512,
	}
)

// protocolUDP is the only thing that transport mode connections of clients carry: L2TP.
const protocolUDP = 17

// xfrmSA is an SA as the kernel package wants it. The connection's number is the mark of
// what the inbound SA decrypts and the reqid of both (kernel.md section 2.5).
func xfrmSA(f ike.SA) (xfrm.SA, error) {
	encryption, ok := espEncryption[f.Cipher]
	if !ok {
		return xfrm.SA{}, fmt.Errorf("%w: ESP transform %d has no kernel algorithm", xfrm.ErrInvalid, f.Cipher)
	}
	integrity, ok := espIntegrity[f.Auth]
	if !ok {
		return xfrm.SA{}, fmt.Errorf("%w: ESP authentication %d has no kernel algorithm", xfrm.ErrInvalid, f.Auth)
	}
	if integrity == xfrm.SHA256 && f.AuthBits == 96 {
		integrity = xfrm.SHA256Trunc96
	}
	sa := xfrm.SA{
		Dir: xfrm.In, SPI: f.SPI, Local: f.Local.Addr(), Remote: f.Remote.Addr(), Reqid: xfrm.Tag(uint32(f.Conn)), Mode: xfrm.Transport,
		Encryption: encryption, EncryptionKey: xfrm.Key(f.EncKey), Integrity: integrity, IntegrityKey: xfrm.Key(f.AuthKey),
		SoftSeconds: seconds(f.SoftLife), HardSeconds: seconds(f.HardLife), SoftBytes: f.SoftKB << 10, HardBytes: f.HardKB << 10,
	}
	if f.Encap {
		sa.Encap = &xfrm.Encap{LocalPort: f.Local.Port(), RemotePort: f.Remote.Port()}
	}
	if f.Dir == ike.Outbound {
		sa.Dir = xfrm.Out
	}
	switch {
	case f.Tunnel:
		tunnelMode(&sa, f)
	case f.Static != "":
		staticTransport(&sa, f)
	default:
		transportMode(&sa, f.SkipChecksum)
	}
	return sa, nil
}

// transportMode is for L2TP. Only the protocol and our address can be checked: behind NAT the
// peer's addresses and ports in the packet are not those negotiated (kernel.md 3.1). Behind a NAT with IPsec passthrough
// not even the UDP checksum can be (B2r).
func transportMode(sa *xfrm.SA, skipChecksum bool) {
	sa.Selector.Proto = protocolUDP
	server := netip.PrefixFrom(sa.Local, sa.Local.BitLen())
	if sa.Dir == xfrm.Out {
		sa.Selector.Src = server
	} else {
		sa.SetMark, sa.Selector.Dst = sa.Reqid, server
		if skipChecksum {
			sa.SetMark = vr.Unchecked(sa.Reqid)
		}
	}
}

// tunnelMode is for dynamic subscribers and static tunnels. Not the mark of an L2TP client: it would say so to the rules
// of package vr.
func tunnelMode(sa *xfrm.SA, f ike.SA) {
	sa.Mode = xfrm.Tunnel
	sa.Selector = xfrm.Selector{Proto: f.Protocol, Src: f.LocalNet, Dst: f.RemoteNet}
	if sa.Dir == xfrm.In {
		sa.Selector.Src, sa.Selector.Dst = f.RemoteNet, f.LocalNet
	}
	if f.Static != "" {
		staticPorts(sa, f)
	}
}

// seconds rounds up: a lifetime below a second is not no limit.
func seconds(d time.Duration) uint64 { return uint64((d + time.Second - 1) / time.Second) }
