package main

import (
	"fmt"
	"io"
)

// cpioWriter writes the "newc" archive format, which the kernel unpacks as its initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpioWriter struct {
	w     io.Writer
	inode int
	err   error
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
)

// dir adds an empty directory; parents come first.
func (c *cpioWriter) dir(name string) { c.entry(name, modeDir, nil) }

// file adds an executable file.
func (c *cpioWriter) file(name string, data []byte) { c.entry(name, modeFile, data) }

// close ends the archive and reports the first error of any write.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, nil)
	return c.err
}

func (c *cpioWriter) entry(name string, mode int, data []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	head := append([]byte(header+name), 0)
	for len(head)%4 != 0 {
		head = append(head, 0)
	}
	if _, c.err = c.w.Write(head); c.err != nil {
		return
	}
	if _, c.err = c.w.Write(data); c.err != nil {
		return
	}
	_, c.err = c.w.Write(make([]byte, (4-len(data)%4)%4))
}
