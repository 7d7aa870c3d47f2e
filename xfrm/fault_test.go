package xfrm

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// fake is a Kernel whose netlink answers come from a function: the request's
// type and its number in, an errno and a body out.
type fake struct {
	requests []netlink.HeaderType
	bodies   [][]byte
	sas      []State // what NEWSA requests asked for
	answer   func(n int, typ netlink.HeaderType) (unix.Errno, []byte)
}

func (f *fake) kernel() *Kernel {
	return &Kernel{netns: -1, conn: nltest.Dial(func(reqs []netlink.Message) ([]netlink.Message, error) {
		req := reqs[0]
		f.requests = append(f.requests, req.Header.Type)
		f.bodies = append(f.bodies, req.Data)
		if req.Header.Type == msgNewSA {
			s, err := parseSA(req.Data)
			if err != nil {
				return nil, err
			}
			f.sas = append(f.sas, s)
		}
		errno, body := f.answer(len(f.requests)-1, req.Header.Type)
		if body != nil {
			return []netlink.Message{{Header: netlink.Header{Type: msgNewSA, Sequence: req.Header.Sequence, PID: nltest.PID}, Data: body}}, nil
		}
		return nltest.Error(int(errno), reqs)
	})}
}

// TestPairIsUndone: a pair is both SAs or none.
func TestPairIsUndone(t *testing.T) {
	in, out := pair(1, "192.0.2.1", "198.51.100.1", nil)
	f := &fake{answer: func(n int, _ netlink.HeaderType) (unix.Errno, []byte) {
		if n == 1 {
			return unix.ENOMEM, nil
		}
		return 0, nil
	}}
	if err := f.kernel().AddPair(in, out); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("AddPair: %v", err)
	}
	if want := []netlink.HeaderType{msgNewSA, msgNewSA, msgDelSA}; !slices.Equal(f.requests, want) {
		t.Errorf("requests %v, want %v", f.requests, want)
	}
	for i, b := range f.bodies {
		if len(b) == 0 || slices.Max(b) != 0 {
			t.Errorf("request %d was not cleared", i)
		}
	}
	// A pair that is wrong is not even begun.
	f.requests = nil
	out.SPI = 1
	if err := f.kernel().AddPair(in, out); !errors.Is(err, ErrInvalid) || len(f.requests) != 0 {
		t.Errorf("invalid pair: %v after %v", err, f.requests)
	}
	if err := f.kernel().AddPair(in, in); !errors.Is(err, ErrInvalid) {
		t.Errorf("two inbound SAs: %v", err)
	}
}

// TestMoveIsUndone: an inbound SA that cannot be moved is put back as it was.
func TestMoveIsUndone(t *testing.T) {
	in, _ := pair(1, "192.0.2.1", "198.51.100.1", &Encap{4500, 40001})
	moved := in
	moved.Remote = netip.MustParseAddr("198.51.100.2")
	state := encodeSA(&in, &State{replay: replayState{in: 55, window: 128, bitmap: []uint32{9, 8, 7, 6}}})
	f := &fake{}
	f.answer = func(_ int, typ netlink.HeaderType) (unix.Errno, []byte) {
		switch {
		case typ == msgGetSA:
			return 0, slices.Clone(state)
		case typ == msgNewSA && len(f.sas) == 1:
			return unix.ENOBUFS + 1000, nil // anything
		}
		return 0, nil
	}
	if err := f.kernel().Update(in, moved); err == nil {
		t.Error("Update hides the failure")
	}
	if want := []netlink.HeaderType{msgGetSA, msgDelSA, msgNewSA, msgNewSA}; !slices.Equal(f.requests, want) {
		t.Fatalf("requests %v, want %v", f.requests, want)
	}
	back := f.sas[1]
	if back.Src != in.Remote || back.replay.in != 55 || !slices.Equal(back.replay.bitmap, []uint32{9, 8, 7, 6}) {
		t.Errorf("put back as %+v", back)
	}
}

// TestMoveOutAddsFirst: the outbound SA's successor is there before it goes, and
// never uses a sequence number again.
func TestMoveOutAddsFirst(t *testing.T) {
	_, out := pair(1, "192.0.2.1", "198.51.100.1", &Encap{4500, 40001})
	moved := out
	moved.Remote = netip.MustParseAddr("198.51.100.2")
	for have, want := range map[uint32]uint32{77: 77 + sequenceGap, 0xffff_ff00: 0xffff_ffff} {
		state := encodeSA(&out, &State{replay: replayState{out: have}})
		f := &fake{answer: func(_ int, typ netlink.HeaderType) (unix.Errno, []byte) {
			if typ == msgGetSA {
				return 0, slices.Clone(state)
			}
			return 0, nil
		}}
		if err := f.kernel().Update(out, moved); err != nil {
			t.Fatal(err)
		}
		if order := []netlink.HeaderType{msgGetSA, msgNewSA, msgDelSA}; !slices.Equal(f.requests, order) || f.sas[0].replay.out != want {
			t.Errorf("requests %v, sequence %#x, want %#x", f.requests, f.sas[0].replay.out, want)
		}
		// The peer's new address has that SPI already: the old SA stays.
		f.requests, f.sas = nil, nil
		old := f.answer
		f.answer = func(n int, typ netlink.HeaderType) (unix.Errno, []byte) {
			if typ == msgNewSA {
				return unix.EEXIST, nil
			}
			return old(n, typ)
		}
		if err := f.kernel().Update(out, moved); !errors.Is(err, ErrExists) || slices.Contains(f.requests, msgDelSA) {
			t.Errorf("collision: %v after %v", err, f.requests)
		}
	}
}

func TestUpdateIsChecked(t *testing.T) {
	in, out := pair(1, "192.0.2.1", "198.51.100.1", &Encap{4500, 40001})
	f := &fake{answer: func(int, netlink.HeaderType) (unix.Errno, []byte) { return 0, nil }}
	for name, change := range map[string]func(*SA){
		"SPI":   func(s *SA) { s.SPI++ },
		"local": func(s *SA) { s.Local = netip.MustParseAddr("192.0.2.7") },
		"reqid": func(s *SA) { s.Reqid = Tag(2) },
		"mode":  func(s *SA) { s.Mode = Tunnel },
		"encap": func(s *SA) { s.Encap = nil },
		"key":   func(s *SA) { s.EncryptionKey = nil },
	} {
		sa := in
		change(&sa)
		if err := f.kernel().Update(in, sa); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.kernel().Update(in, out); !errors.Is(err, ErrInvalid) {
		t.Errorf("direction: %v", err)
	}
	if len(f.requests) != 0 {
		t.Errorf("requests %v", f.requests)
	}
}

// TestBrokenExchange: a socket that broke off is not used again.
func TestBrokenExchange(t *testing.T) {
	k, err := Open(ownNamespace(t))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	broken := nltest.Dial(func([]netlink.Message) ([]netlink.Message, error) { return nil, io.ErrUnexpectedEOF })
	if err := k.conn.Close(); err != nil {
		t.Fatal(err)
	}
	k.conn = broken
	in, _ := pair(0xabcdef, "127.0.0.9", "127.0.0.8", nil)
	if err := k.Remove(in.ID()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken exchange: %v", err)
	}
	if err := k.Remove(in.ID()); err != nil || k.conn == broken {
		t.Errorf("after a broken exchange: %v", err)
	}
	if err := errors.Join(k.Close(), k.Close()); err != nil {
		t.Error(err)
	}
	if _, err := k.List(); !errors.Is(err, ErrClosed) {
		t.Errorf("List after Close: %v", err)
	}
	if err := k.Remove(in.ID()); !errors.Is(err, ErrClosed) {
		t.Errorf("Remove after Close: %v", err)
	}
}

// ownNamespace is a descriptor of the process's own namespace, in which only an
// SA that does not exist is asked for.
func ownNamespace(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
