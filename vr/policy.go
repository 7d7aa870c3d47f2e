package vr

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Sizes and offsets of struct xfrm_userpolicy_info and struct xfrm_user_tmpl of the kernel's linux/xfrm.h, as
// they are on all 64-bit machines. setsockopt(IP_XFRM_POLICY) takes one info and its templates in a row.
const (
	policySize     = 168
	policyFamily   = 40  // selector.family, u16; all other selector fields 0: any
	policyLimits   = 56  // lifetime: 4 × u64 of bytes and packets, all ones: none
	policyDir      = 160 // u8
	policyAction   = 161 // u8, 0: allow
	templateSize   = 64
	templateProto  = 20 // id.proto, u8
	templateFamily = 24 // u16
	templateReqid  = 44 // u32
	templateMode   = 48 // u8, 0: transport
	templateAlgs   = 52 // three u32 of algorithm bits, all ones: any

	policyIn  = 0 // XFRM_POLICY_IN
	policyOut = 1 // XFRM_POLICY_OUT
)

// socketPolicy builds a per-socket policy for IPv4. With reqid 0 it has no template: traffic passes in clear
// and no policy of the namespace is asked. Otherwise traffic needs ESP in transport mode by an SA of that reqid.
func socketPolicy(dir byte, reqid uint32) []byte {
	size := policySize
	if reqid != 0 {
		size += templateSize
	}
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b[policyFamily:], unix.AF_INET)
	for i := range 4 {
		binary.NativeEndian.PutUint64(b[policyLimits+8*i:], ^uint64(0))
	}
	b[policyDir] = dir
	if reqid == 0 {
		return b
	}
	t := b[policySize:]
	t[templateProto] = unix.IPPROTO_ESP
	binary.NativeEndian.PutUint16(t[templateFamily:], unix.AF_INET)
	binary.NativeEndian.PutUint32(t[templateReqid:], reqid)
	for i := range 3 {
		binary.NativeEndian.PutUint32(t[templateAlgs+4*i:], ^uint32(0))
	}
	return b
}

// setPolicy installs a per-socket policy; fd must be an IPv4 socket.
func setPolicy(fd int, dir byte, reqid uint32) error {
	return unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_XFRM_POLICY, string(socketPolicy(dir, reqid)))
}
