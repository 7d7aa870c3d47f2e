package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// fileMode: the state names users and addresses.
	fileMode = 0o600
	// lockTimeout is how long Open waits for another process to let go of the file: about what
	// one that is being replaced needs.
	lockTimeout = 5 * time.Second
	// format is the version of the tables' layout. It rises when an older vrgate would
	// misunderstand what a newer one writes.
	format = 1
	// formatTable and formatKey hold it, as four bytes, high first.
	formatTable = "store"
	formatKey   = "format"
	// suffixUnreadable and a time are appended to the name of a file that cannot be read.
	suffixUnreadable = ".unreadable-"
	// leastEntry is fewer bytes than any entry takes in the file. A file with more entries than
	// fit goes in circles.
	leastEntry = 16
)

// errUnreadable: the file is not what this package has written.
var errUnreadable = errors.New("store: the state file is damaged")

// Open opens the state file, and makes it and its directory when they are not there.
//
// A file that is damaged is moved aside, and an empty one takes its place (MovedAside): serving
// subscribers comes before a journal that nobody can read any more. A file of a newer format is
// left alone (ErrNewer), because it can be read: by the version that wrote it. Other errors:
// ErrLocked, ErrFull, ErrDisk and those of the file system, such as a missing permission.
func Open(path string) (*Store, error) { return open(path, 0) }

// open is Open with a largest size of the file in bytes; 0: none.
func open(path string, maxSize int) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, classify(err)
	}
	db, err := openFile(path, maxSize)
	aside := ""
	if errors.Is(err, errUnreadable) {
		aside = path + suffixUnreadable + time.Now().UTC().Format("20060102T150405.000000000")
		if rerr := os.Rename(path, aside); rerr != nil {
			return nil, fmt.Errorf("%w, and cannot be moved aside: %w", err, rerr)
		}
		db, err = openFile(path, maxSize)
	}
	if err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(classify(err), db.Close())
	}
	return &Store{db: db, movedAside: aside}, nil
}

// openFile opens and checks the file. A damaged one would otherwise be found out by a panic, or
// by a fault in the memory that maps it, in the middle of the work.
func openFile(path string, maxSize int) (db *bbolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%w: %v", errUnreadable, p)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if info, serr := os.Stat(path); serr == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("store: %s is not a file", path)
	} else if serr == nil && info.Size() > 0 {
		// Read only first: opened for writing, bbolt walks through the file in a goroutine of
		// its own, where nobody could recover from what it meets.
		if err := check(path, info.Size()); err != nil {
			return nil, err
		}
	}
	db, err = bbolt.Open(path, fileMode, &bbolt.Options{
		Timeout: lockTimeout,
		// The list of free pages of a journal that was long once would be written with every
		// transaction; it is found again when the file is opened.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		MaxSize:        maxSize,
	})
	if err != nil {
		return nil, openError(err)
	}
	if err := os.Chmod(path, fileMode); err != nil {
		return nil, errors.Join(classify(err), db.Close())
	}
	if err := claim(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// check reads everything that is in the file.
func check(path string, size int64) error {
	db, err := bbolt.Open(path, fileMode, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return openError(err)
	}
	// Not deferred: closing what has just panicked would wait for its transaction for ever.
	entries := size / leastEntry
	err = db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > size {
			return fmt.Errorf("%w: it has %d bytes of %d", errUnreadable, size, tx.Size())
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error {
				if entries--; entries < 0 {
					return fmt.Errorf("%w: it goes in circles", errUnreadable)
				}
				return nil
			})
		})
	})
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return err
}

// claim checks the format, and writes it into a file that is new.
func claim(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(formatTable))
		if b == nil {
			if k, _ := tx.Cursor().First(); k != nil {
				return fmt.Errorf("%w: it is not a state file of vrgate", errUnreadable)
			}
			nb, err := tx.CreateBucket([]byte(formatTable))
			if err != nil {
				return classify(err)
			}
			return nb.Put([]byte(formatKey), binary.BigEndian.AppendUint32(nil, format))
		}
		v := b.Get([]byte(formatKey))
		if len(v) != 4 {
			return fmt.Errorf("%w: it has no format", errUnreadable)
		}
		if got := binary.BigEndian.Uint32(v); got > format {
			return fmt.Errorf("%w (%d, this vrgate knows %d): start the newer vrgate, which sends the accounting records in it, or move the file away and lose them", ErrNewer, got, format)
		}
		return nil
	})
}

func openError(err error) error {
	var no syscall.Errno
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case errors.As(err, &no), errors.Is(err, fs.ErrPermission):
		return classify(err)
	}
	return fmt.Errorf("%w: %w", errUnreadable, err)
}

// classify gives errors of the system their type. Never by text.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG), errors.Is(err, bolterrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS), errors.Is(err, bolterrors.ErrInvalidMapping):
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	return err
}

// syncDir makes the file's name survive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
