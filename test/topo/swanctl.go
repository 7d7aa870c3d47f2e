package topo

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// connection is one swanctl connection, of a client, a server or a site.
type connection struct {
	IKEConfig
	name     string  // empty: connectionName
	from     string  // own address; empty: any
	to       string  // the peer's address, or %any
	local    []round // authentication of this side
	remote   []round // and of the peer
	secrets  []secret
	children []child
	pool     netip.Prefix // that a server gives virtual addresses of; invalid: none
}

// child is one pair of IPsec SAs of a connection.
type child struct {
	name     string
	tunnel   bool // mode; else transport
	localTS  string
	remoteTS string
	settings []string // further ones, such as "start_action = trap"
}

// round is one authentication of one side.
type round struct {
	auth    string   // psk, pubkey or xauth
	id      string   // empty: the address, or with a certificate its subject
	xauthID string   // user name
	certs   []string // own certificates
	cacerts []string // authorities, one of which has to have signed the peer's certificate
}

// secret is a pre-shared key or password.
type secret struct {
	kind string // ike or xauth
	id   string // whose; empty: anybody's
	own  string // identity of ours that it is for; empty: any
	text string
}

// connectionName names the connection to swanctl, childName the child that carries L2TP, and poolName a
// server's pool.
const (
	connectionName = "vpn"
	childName      = "l2tp"
	poolName       = "users"
)

// settings returns swanctl.conf.
func settings(connections ...connection) string {
	var w swanctlWriter
	w.open("connections")
	for _, c := range connections {
		w.connection(c)
	}
	w.closeAll()
	w.open("secrets")
	i := 0
	for _, c := range connections {
		for _, s := range c.secrets {
			w.open(numbered(s.kind, i))
			if s.id != "" {
				w.line("id = %s", s.id)
			}
			if s.own != "" {
				w.line("id-own = %s", s.own)
			}
			w.line("secret = %q", s.text)
			w.close()
			i++
		}
	}
	w.closeAll()
	for _, c := range connections {
		if c.pool.IsValid() {
			w.open("pools")
			w.open(poolName)
			w.line("addrs = %s", c.pool)
			w.closeAll()
		}
	}
	return w.String()
}

func (w *swanctlWriter) connection(c connection) {
	w.open(cmp.Or(c.name, connectionName))
	w.line("version = 1")
	if c.from != "" {
		w.line("local_addrs = %s", c.from)
	}
	w.line("remote_addrs = %s", c.to)
	if len(c.IKE) > 0 {
		w.line("proposals = %s", strings.Join(c.IKE, ","))
	}
	switch {
	case c.NeverRekeys:
		w.line("rekey_time = 0s")
		w.line("rand_time = 0")
	case c.IKELifetime > 0:
		w.line("rekey_time = %ds", int(c.IKELifetime.Seconds()))
		w.line("over_time = %ds", max(1, int(c.IKELifetime.Seconds())/2))
		w.line("rand_time = 0")
	}
	if c.DPD > 0 {
		w.line("dpd_delay = %ds", int(c.DPD.Seconds()))
		w.line("dpd_timeout = %ds", 3*int(c.DPD.Seconds()))
	}
	for _, e := range c.Connection {
		w.line("%s", e)
	}
	if c.pool.IsValid() {
		w.line("pools = %s", poolName)
	}
	for i, r := range c.local {
		w.round(numbered("local", i), r)
	}
	for i, r := range c.remote {
		w.round(numbered("remote", i), r)
	}
	w.open("children")
	for _, ch := range c.children {
		w.child(c.IKEConfig, ch)
	}
	w.close()
	w.close()
}

func (w *swanctlWriter) child(c IKEConfig, ch child) {
	w.open(ch.name)
	mode := "transport"
	if ch.tunnel {
		mode = "tunnel"
	}
	w.line("mode = %s", mode)
	w.line("local_ts = %s", ch.localTS)
	w.line("remote_ts = %s", ch.remoteTS)
	if len(c.ESP) > 0 {
		w.line("esp_proposals = %s", strings.Join(c.ESP, ","))
	}
	switch {
	case c.NeverRekeys:
		w.line("rekey_time = 0s")
		w.line("life_time = %ds", int(c.ESPLifetime.Seconds()))
		w.line("rand_time = 0") // else it is the whole life, and the kernel asks for a rekeying after a second
	case c.ESPLifetime > 0:
		w.line("rekey_time = %ds", int(c.ESPLifetime.Seconds()))
		w.line("life_time = %ds", 2*int(c.ESPLifetime.Seconds()))
		w.line("rand_time = 0")
	}
	for _, e := range ch.settings {
		w.line("%s", e)
	}
	w.close()
}

// numbered makes section names of one kind differ.
func numbered(kind string, i int) string {
	if i == 0 {
		return kind
	}
	return fmt.Sprintf("%s-%d", kind, i)
}

// swanctlWriter writes nested sections.
type swanctlWriter struct {
	strings.Builder
	depth int
}

func (w *swanctlWriter) line(format string, args ...any) {
	w.WriteString(strings.Repeat("\t", w.depth))
	fmt.Fprintf(w, format+"\n", args...)
}

func (w *swanctlWriter) open(section string) {
	w.line("%s {", section)
	w.depth++
}

func (w *swanctlWriter) close() {
	w.depth--
	w.line("}")
}

func (w *swanctlWriter) closeAll() {
	for w.depth > 0 {
		w.close()
	}
}

func (w *swanctlWriter) round(section string, r round) {
	w.open(section)
	w.line("auth = %s", r.auth)
	for _, f := range []struct{ key, value string }{
		{"id", r.id}, {"xauth_id", r.xauthID}, {"certs", strings.Join(r.certs, ",")}, {"cacerts", strings.Join(r.cacerts, ",")},
	} {
		if f.value != "" {
			w.line("%s = %s", f.key, f.value)
		}
	}
	w.close()
}
