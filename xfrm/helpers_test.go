package xfrm

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
)

// pair is a valid SA pair of connection conn between two addresses, behind a
// NAT when encap is set. Keys are from a fixed seed.
func pair(conn uint32, local, remote string, encap *Encap) (in, out SA) {
	r := rand.New(rand.NewPCG(uint64(conn), 1))
	key := func(n int) Key {
		b := make(Key, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	in = SA{
		Dir: In, SPI: 0x1000 + conn, Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(remote),
		Encap: encap, Reqid: Tag(conn), SetMark: Tag(conn),
		Encryption: AESCBC, EncryptionKey: key(32), Integrity: SHA256, IntegrityKey: key(32),
		SoftSeconds: 3000, HardSeconds: 3600, SoftBytes: 1 << 30, HardBytes: 1 << 31,
		Selector: Selector{Proto: 17, Dst: netip.PrefixFrom(netip.MustParseAddr(local), netip.MustParseAddr(local).BitLen())},
	}
	out = in
	out.Dir, out.SPI, out.SetMark, out.Selector = Out, 0x2000+conn, 0, Selector{Proto: 17}
	out.EncryptionKey, out.IntegrityKey = key(32), key(32)
	return in, out
}

// mirror turns one end's SA into the other end's.
func mirror(sa SA) SA {
	sa.Dir = In + Out - sa.Dir
	sa.Local, sa.Remote = sa.Remote, sa.Local
	if sa.Encap != nil {
		sa.Encap = &Encap{LocalPort: sa.Encap.RemotePort, RemotePort: sa.Encap.LocalPort}
	}
	sa.SetMark, sa.ReplayWindow, sa.Selector = 0, 0, Selector{}
	sa.EncryptionKey, sa.IntegrityKey = bytes.Clone(sa.EncryptionKey), bytes.Clone(sa.IntegrityKey)
	return sa
}
