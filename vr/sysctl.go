package vr

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// firstEphemeral is the lower end of the ephemeral ports where they have to be moved out of the tunnel ports.
// Servers usually listen below it.
const firstEphemeral = 10000

// sysctls sets what the package comment names. /proc/sys/net shows the namespace of the thread that opens it.
func (n *namespace) sysctls() error {
	return n.do(func() error {
		if err := writeSysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
		if err := movePortRange(); err != nil {
			return err
		}
		if !n.made {
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
