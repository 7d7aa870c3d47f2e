package aaa

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// requests returns a valid request of each protocol for User with password clientPass. The
// MS-CHAPv2 values are those of RFC 2759 section 9.2.
func requests(t *testing.T) map[Protocol]Request {
	challenge := []byte("0123456789abcdef")
	sum := md5.Sum(append([]byte("\x07clientPass"), challenge...)) // RFC 1994 section 4.1
	ms := unhex(t, "21402324255E262A28295F2B3A337C7E"+"0000000000000000"+"82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"+"00")
	return map[Protocol]Request{
		PAP:      {User: "User", Protocol: PAP, Password: keymat.Secret("clientPass")},
		CHAPMD5:  {User: "User", Protocol: CHAPMD5, ID: 7, Challenge: challenge, Response: sum[:]},
		MSCHAPv2: {User: "User", Protocol: MSCHAPv2, ID: 9, Challenge: unhex(t, "5B5D7C7D7B3F2F3E3C2C602132262628"), Response: ms},
	}
}

// TestLocal checks each protocol with the right password and with everything that is not it.
func TestLocal(t *testing.T) {
	fixed := netip.MustParseAddr("10.0.0.9")
	good := NewLocal([]User{{Name: "User", Password: keymat.Secret("clientPass"), Address: fixed, Terminating: "inside", SessionTimeout: time.Hour, IdleTimeout: time.Minute}})
	others := map[string]*Local{
		"wrong":  NewLocal([]User{{Name: "User", Password: keymat.Secret("clientPasS")}}),
		"longer": NewLocal([]User{{Name: "User", Password: keymat.Secret("clientPass1")}}),
		"empty":  NewLocal([]User{{Name: "User"}}),
	}
	for protocol, r := range requests(t) {
		t.Run(string(protocol), func(t *testing.T) {
			d := good.Decide(context.Background(), r)
			if !d.Accept || d.User != "User" || d.Address != fixed || d.Terminating != "inside" || d.Reason != "" || d.SessionTimeout != time.Hour || d.IdleTimeout != time.Minute {
				t.Errorf("the right password: %+v", d)
			}
			proof := ""
			if protocol == MSCHAPv2 {
				proof = "S=407A5589115FD0D6209F510FE9C04566932CDA56"
			}
			if d.MSCHAPv2Response != proof {
				t.Errorf("proof %q, want %q", d.MSCHAPv2Response, proof)
			}
			for name, l := range others {
				if d := l.Decide(context.Background(), r); d.Accept || d.Reason != ReasonWrongPassword || d.MSCHAPv2Response != "" || d.Address.IsValid() {
					t.Errorf("%s password: %+v", name, d)
				}
			}
			stranger := r
			stranger.User = "user" // names match exactly
			if d := good.Decide(context.Background(), stranger); d.Accept || d.Reason != ReasonUnknownUser {
				t.Errorf("unknown user: %+v", d)
			}
			if protocol == PAP {
				return
			}
			for n := range r.Response {
				if protocol == MSCHAPv2 && (n >= 16 && n < 24 || n == 48) {
					continue // reserved bytes and flags prove nothing
				}
				changed := r
				changed.Response = bytes.Clone(r.Response)
				changed.Response[n] ^= 1
				if good.Decide(context.Background(), changed).Accept {
					t.Fatalf("accepted with byte %d of the response changed", n)
				}
			}
			for n := range len(r.Response) {
				cut := r
				cut.Response = r.Response[:n]
				if good.Decide(context.Background(), cut).Accept {
					t.Fatalf("accepted a response of %d bytes", n)
				}
			}
		})
	}
}

// TestLocalProtocols: what cannot be checked is refused, also for users with empty passwords,
// and the stranger that stands in for unknown users cannot log in.
func TestLocalProtocols(t *testing.T) {
	l := NewLocal([]User{{Name: "User"}})
	for _, protocol := range []Protocol{"", "eap"} {
		for _, user := range []string{"User", "", "x"} {
			if d := l.Decide(context.Background(), Request{User: user, Protocol: protocol}); d.Accept || d.Reason != ReasonProtocol || d.Text == "" {
				t.Errorf("user %q, protocol %q: %+v", user, protocol, d)
			}
		}
	}
	if d := l.Decide(context.Background(), Request{User: "x", Protocol: PAP, Password: stranger.Password}); d.Accept {
		t.Error("the stand-in for unknown users logged in")
	}
}

// TestLocalProven: phase 1 has proven the identity; an entry is needed only for what it adds, and
// its password is not asked for (J17 has its exception where a tunnel profile has no XAuth).
func TestLocalProven(t *testing.T) {
	fixed := netip.MustParseAddr("10.0.0.9")
	l := NewLocal([]User{{Name: "pc.example.net", Password: keymat.Secret("x"), Address: fixed, Terminating: "inside", IdleTimeout: time.Minute}})
	d := l.Decide(context.Background(), Request{User: "pc.example.net", Protocol: Proven})
	if !d.Accept || d.User != "pc.example.net" || d.Address != fixed || d.Terminating != "inside" || d.IdleTimeout != time.Minute {
		t.Errorf("with an entry: %+v", d)
	}
	d = l.Decide(context.Background(), Request{User: "other.example.net", Protocol: Proven})
	if !d.Accept || d.User != "other.example.net" || d.Address.IsValid() || d.Terminating != "" {
		t.Errorf("without an entry: %+v", d)
	}
	if d := l.Decide(context.Background(), Request{User: "other.example.net", Protocol: PAP}); d.Accept {
		t.Errorf("without an entry, with a password: %+v", d)
	}
}

// TestNoSecretIsPrinted: requests and users are logged and put into errors by accident.
func TestNoSecretIsPrinted(t *testing.T) {
	const secret = "hunter2 hunter2"
	r := Request{
		User: "User", Protocol: PAP, Password: keymat.Secret(secret), Passcode: keymat.Secret(secret), Answer: keymat.Secret(secret), NextPIN: keymat.Secret(secret),
	}
	u := User{Name: "User", Password: keymat.Secret(secret)}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, x := range []any{r, &r, u, &u, []User{u}} {
			out := fmt.Sprintf(format, x)
			if strings.Contains(out, secret) || strings.Contains(out, hex.EncodeToString([]byte(secret))) {
				t.Errorf("%s prints the secret: %s", format, out)
			}
		}
	}
}
