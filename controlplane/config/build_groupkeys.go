package config

import (
	"slices"
	"time"
)

func (b *builder) groupKeys(l *fileTransportLocal) []GroupKey {
	var keys []GroupKey
	seen := map[string]Pos{}
	for i := range l.GroupKeys {
		g := &l.GroupKeys[i]
		b.unique(seen, g.Name, "group key")
		k := b.secretOf(g.pos, g.Key, g.KeyFile, "key", true)
		b.weakKey(k, g.Key.pos, g.KeyFile.pos)
		if g.present {
			// D3r: say it once per key.
			b.warnf(g.pos, "whoever knows the group key %s can pose as this server to its clients; give a client a key of its own where its address is known", quoteShort(g.Name.v))
		}
		switch from, until := g.From.v, g.Until.v; {
		case until.IsZero():
		case !from.IsZero() && !from.Before(until):
			b.errorf(g.Until.pos, "\"valid-until\" must be after \"valid-from\", which is %s", clock(from))
		case !until.After(b.now):
			b.warnf(g.Until.pos, "the group key %s has expired: no new connection can be made with it", quoteShort(g.Name.v))
		}
		keys = append(keys, GroupKey{Name: g.Name.v, Key: k, From: g.From.v, Until: g.Until.v})
	}
	b.keyGap(l, keys)
	return keys
}

// keyGap warns of the first time from now on in which no group key of an address is valid: a rotation
// without overlap locks out every client that comes then.
func (b *builder) keyGap(l *fileTransportLocal, keys []GroupKey) {
	if len(keys) == 0 || !l.sound("group-keys") {
		return
	}
	begin, end, found := firstGap(keys, b.now)
	switch {
	case !found:
	case !begin.After(b.now) && end.IsZero():
		// Each of them has expired, and has been warned of.
	case !begin.After(b.now):
		b.warnf(l.pos, "no group key of %v is valid until %s", l.Address.v, clock(end))
	case end.IsZero():
		b.warnf(l.pos, "no group key of %v is valid from %s on", l.Address.v, clock(begin))
	default:
		b.warnf(l.pos, "no group key of %v is valid from %s until %s", l.Address.v, clock(begin), clock(end))
	}
}

// firstGap finds the first time from now on in which none of the keys is valid. The end is zero if it has
// none.
func firstGap(keys []GroupKey, now time.Time) (begin, end time.Time, found bool) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b GroupKey) int { return a.From.Compare(b.From) })
	at := now
	for _, k := range keys {
		if k.From.After(at) {
			return at, k.From, true
		}
		if k.Until.IsZero() {
			return time.Time{}, time.Time{}, false
		}
		if k.Until.After(at) {
			at = k.Until
		}
	}
	return at, time.Time{}, true
}

// clock writes a time as the file has it.
func clock(t time.Time) string { return t.Format(time.RFC3339) }
