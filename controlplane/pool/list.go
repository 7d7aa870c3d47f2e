package pool

// list is a doubly linked list of leases. Each lease is in up to three, one of each kind. The
// nil list is empty.
type list struct{ head, tail *lease }

// links are a lease's neighbours in one kind of list.
type links struct {
	prev, next *lease
	member     bool
}

// The kinds of lists.
const (
	byAge = iota
	byKey
	byKin
)

func (l *list) first() *lease {
	if l == nil {
		return nil
	}
	return l.head
}

func (l *list) has(kind int, x *lease) bool { return x.in[kind].member }

func (l *list) pushBack(kind int, x *lease) {
	x.in[kind] = links{prev: l.tail, member: true}
	if l.tail == nil {
		l.head = x
	} else {
		l.tail.in[kind].next = x
	}
	l.tail = x
}

func (l *list) pushFront(kind int, x *lease) {
	x.in[kind] = links{next: l.head, member: true}
	if l.head == nil {
		l.tail = x
	} else {
		l.head.in[kind].prev = x
	}
	l.head = x
}

func (l *list) remove(kind int, x *lease) {
	at := x.in[kind]
	if at.prev == nil {
		l.head = at.next
	} else {
		at.prev.in[kind].next = at.next
	}
	if at.next == nil {
		l.tail = at.prev
	} else {
		at.next.in[kind].prev = at.prev
	}
	x.in[kind] = links{}
}

// pushFront puts a lease first in the list of a name, which is made when there is none.
func pushFront(lists map[string]*list, name string, kind int, x *lease) {
	l := lists[name]
	if l == nil {
		l = &list{}
		lists[name] = l
	}
	l.pushFront(kind, x)
}

// remove takes a lease out of the list of a name, which goes with its last.
func remove(lists map[string]*list, name string, kind int, x *lease) {
	l := lists[name]
	if l.remove(kind, x); l.head == nil {
		delete(lists, name)
	}
}
