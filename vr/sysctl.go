package vr

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// firstEphemeral is the lower end of the ephemeral ports where they have to be moved out of the tunnel ports.
// Servers usually listen below it.
const firstEphemeral = 10000

// sysctls sets what the package comment names; six where IPv6 is served. /proc/sys/net shows the namespace of the thread that opens it.
func (n *namespace) sysctls(six bool) error {
	return n.do(func() error {
		if err := writeSysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
		if err := movePortRange(); err != nil {
			return err
		}
		if !n.made || six {
			return nil
		}
		return ignoreMissing(writeSysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	})
}

// ignoreMissing is for the controls of IPv6, which a kernel without IPv6 has not.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// movePortRange keeps other programs' ephemeral ports out of the tunnel ports: the guard of the tunnel ports
// would drop the answers that they wait for.
func movePortRange() error {
	const key = "net/ipv4/ip_local_port_range"
	text, err := readSysctl(key)
	if err != nil {
		return err
	}
	want, err := portRange(text)
	if err != nil || want == "" {
		return err
	}
	return writeSysctl(key, want)
}

// portRange returns the range to set instead of the present one, "" when that is fine.
func portRange(present string) (string, error) {
	f := strings.Fields(present)
	if len(f) != 2 {
		return "", fmt.Errorf("net.ipv4.ip_local_port_range: unexpected %q", present)
	}
	low, err1 := strconv.ParseUint(f[0], 10, 16)
	high, err2 := strconv.ParseUint(f[1], 10, 16)
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("net.ipv4.ip_local_port_range: %w", err)
	}
	if high < uint64(MinTunnelPort) {
		return "", nil
	}
	if low > firstEphemeral {
		low = firstEphemeral
	}
	return fmt.Sprintf("%d\t%d", low, MinTunnelPort-1), nil
}

// promoteSecondaries has an interface of ours, in the thread's namespace, keep the other addresses of a network when the first one is
// removed. The kernel would remove them, and with the last one the interface's routes, until they are put back; and does so where
// /proc/sys is read-only.
func promoteSecondaries(link string) {
	_ = writeSysctl("net/ipv4/conf/"+link+"/promote_secondaries", "1")
}

// checksumDrops adds the number of UDP datagrams that the kernel has dropped for their checksum.
func (r *Router) checksumDrops(drops map[string]uint64) error {
	return r.space.do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return fmt.Errorf("virtual router %s: %w", r.name, err)
		}
		drops[dropChecksum], err = snmp(string(b), "Udp:", "InCsumErrors")
		return err
	})
}

// snmp reads a counter of /proc/net/snmp, where a line with the names is followed by one with the values.
func snmp(text, group, name string) (uint64, error) {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != group {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		if i := slices.Index(names, name); i > 0 && i < len(f) {
			return strconv.ParseUint(f[i], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/net/snmp: no %s %s", group, name)
}

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", key))
	return strings.TrimSpace(string(b)), err
}

// writeSysctl sets a value unless it is so already, which also works where /proc/sys is read-only.
func writeSysctl(key, value string) error {
	have, err := readSysctl(key)
	if err != nil {
		return err
	}
	if have == value {
		return nil
	}
	if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s: %w", strings.ReplaceAll(key, "/", "."), err)
	}
	return nil
}
