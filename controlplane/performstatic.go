package controlplane

import (
	"context"

	"go.uber.org/zap"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
)

// staticWork orders blocking work about one static tunnel and all of its connections: its traffic is carried by a connection whose
// SAs are there, and by the next one before the SAs of the last go.
type staticWork struct {
	router *router
	tunnel string
}

// connKey orders calls about one connection.
func (r *router) connKey(conn ike.ConnID) any {
	if tunnel, ok := r.statics[conn]; ok {
		return staticWork{r, tunnel}
	}
	return connWork{r, conn}
}

// performSite carries out what the site engine wants of the outside.
func (r *router) performSite(f site.Effect) {
	switch f := f.(type) {
	case site.ReadTraffic:
		r.async(r.connKey(ike.ConnID(f.Conn)), func() any {
			c, _ := r.data.Traffic(ike.ConnID(f.Conn))
			return site.Traffic{Conn: f.Conn, InPackets: c.InPackets, OutPackets: c.OutPackets}
		})
	case site.Probe:
		r.probe(f)
	case site.Resolve:
		r.resolve(f)
	case site.Changed:
		r.tunnelChanged(f)
	case site.Answer:
		r.tunnelAnswered(f)
	}
}

// carry has a connection carry a tunnel, or none.
func (r *router) carry(f CarryTunnel) {
	r.async(staticWork{r, f.Tunnel}, func() any {
		done := tunnelCarried{CarryTunnel: f}
		if err := r.data.CarryTunnel(f); err != nil {
			r.kernelFailed("carry static tunnel", err)
			reason, text := reasonOf(err)
			done.reason, done.text = string(reason), text
		}
		return done
	})
}

// closeStatic has the data plane forget a connection that is over.
func (r *router) closeStatic(f closeStatic) {
	r.async(staticWork{r, f.tunnel}, func() any {
		r.data.CloseStatic(f.conn)
		return nil
	})
	delete(r.statics, f.conn)
}

// performStatic carries out what the IKE engine wants for static tunnels alone.
func (r *router) performStatic(ctx context.Context, f ike.Effect) {
	switch f := f.(type) {
	case ike.UserAnswered:
		r.checkUser(ctx, f)
	case ike.KeepNAT:
		if r.data.KeepNAT(f) != nil {
			r.stats.ikeSendErrors.Add(1)
		}
	case ike.ChildUp:
		r.log.Debug("networks of a static tunnel joined", zap.String("tunnel", f.Static), zap.String("networks", f.Child), zap.Uint32("conn", uint32(f.Conn)))
	case ike.ChildDown:
		r.log.Info("networks of a static tunnel are not joined", zap.String("tunnel", f.Static), zap.String("networks", f.Child), zap.Uint32("conn", uint32(f.Conn)),
			zap.String("reason", string(f.Reason)), zap.String("text", f.Text), zap.Bool("by_peer", f.ByPeer))
	}
}
