package vr

import (
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

// LinkPolicy is what the rules do with the packets of one subscriber's link. The zero value is nothing.
type LinkPolicy struct {
	// SourceValidation drops packets from the subscriber whose source is not routed back to the same link.
	SourceValidation bool
	// ClampMSS lowers the MSS of TCP connections through the link to what the routes' MTU allows.
	ClampMSS bool
	// MSS lowers it to this, MinMSS to MaxMSS bytes; 0 for no such bound. A router can tell MaxMSSBounds of them apart.
	MSS int
}

// Bounds of LinkPolicy.MSS in bytes, and how many different ones one router knows in its life.
const (
	MinMSS       = 536
	MaxMSS       = 1460
	MaxMSSBounds = classMSS >> classMSSShift
)

// The link group says which router a link belongs to and which policy it has, so that a fixed number of rules does for all
// links:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     0x56      |   hash of the router's name   | MSS bound |C|V|
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
const (
	linkGroup     uint32 = 0x56000000
	groupShift           = 8
	groupMask     uint32 = 0xffffff00
	classValidate uint32 = 1
	classClamp    uint32 = 2
	classMSS      uint32 = 0xfc // the number of a bound, from 1; 0: none
	classMSSShift        = 2
)

// groupOf is the link group of a router's links without a policy.
func groupOf(router string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(router))
	sum := h.Sum32()
	return linkGroup | (sum>>16^sum)&0xffff<<groupShift
}

// LinkGroup is the link group (IFLA_GROUP) that a subscriber's PPP device of this router has to be given for a policy.
//
// Errors: *BadSpec; ErrClosed; and what the kernel says.
func (r *Router) LinkGroup(p LinkPolicy) (uint32, error) {
	group := groupOf(r.name)
	if p.SourceValidation {
		group |= classValidate
	}
	if p.ClampMSS {
		group |= classClamp
	}
	if p.MSS == 0 {
		return group, nil
	}
	n, err := r.mssNumber(p.MSS)
	return group | n<<classMSSShift, err
}

// mssNumber is the number of an MSS bound, which the rules learn when it is first asked for.
func (r *Router) mssNumber(mss int) (uint32, error) {
	if mss < MinMSS || mss > MaxMSS {
		return 0, &BadSpec{Router: r.name, Reason: fmt.Sprintf("an MSS of %d is not %d to %d", mss, MinMSS, MaxMSS)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, fmt.Errorf("virtual router %s: %w", r.name, ErrClosed)
	}
	if i := slices.Index(r.mss, uint16(mss)); i >= 0 {
		return uint32(i + 1), nil
	}
	if len(r.mss) == int(MaxMSSBounds) {
		return 0, &BadSpec{Router: r.name, Reason: fmt.Sprintf("it has had links with %d different MSS, which is as many as it can tell apart", MaxMSSBounds)}
	}
	n := uint32(len(r.mss) + 1)
	c, err := r.nft()
	if err != nil {
		return 0, err
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName(r.name)}
	if err := c.SetAddElements(mssMap(table), []nftables.SetElement{mssElement(r.name, n, uint16(mss))}); err != nil {
		return 0, fmt.Errorf("virtual router %s: nftables: %w", r.name, err)
	}
	if err := c.Flush(); err != nil {
		return 0, failed(err, "virtual router %s: MSS of links", r.name)
	}
	r.mss = append(r.mss, uint16(mss))
	return n, nil
}

// mssMap leads from a link group, less what else it says, to an MSS.
func mssMap(table *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: table, Name: mssMapName, KeyType: nftables.TypeMark, DataType: nftables.TypeInetService, IsMap: true}
}

func mssElement(router string, n uint32, mss uint16) nftables.SetElement {
	return nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(groupOf(router) | n<<classMSSShift), Val: be16(mss)}
}

// mssElements are those of all bounds, the first of which has the number 1.
func mssElements(router string, bounds []uint16) []nftables.SetElement {
	var out []nftables.SetElement
	for i, mss := range bounds {
		out = append(out, mssElement(router, uint32(i+1), mss))
	}
	return out
}

// text says in an alias and in the name of an access interface which policy it has; empty for none.
func (p LinkPolicy) text() string {
	if p == (LinkPolicy{}) {
		return ""
	}
	return fmt.Sprintf(" validate=%t,clamp=%t,mss=%d", p.SourceValidation, p.ClampMSS, p.MSS)
}
