package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree lists the files below a directory, with their permissions.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case !d.IsDir():
			out = append(out, info.Mode().String()+" "+rel)
		case strings.HasPrefix(rel, "etc/"):
			out = append(out, info.Mode().String()+" "+rel+"/")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestInstallAndUninstall runs the scripts into a directory: everything arrives,
// twice is once, and what was installed goes, but not the configuration.
func TestInstallAndUninstall(t *testing.T) {
	root := t.TempDir()
	program := filepath.Join(t.TempDir(), "vrgate")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n[ \"$*\" = 'completion bash' ] && echo '# completion'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join("../../deploy", args[0]), args[1:]...)
		cmd.Env = append(os.Environ(), "DESTDIR="+root)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	script("install.sh", program)
	script("install.sh", program)
	want := []string{
		"drwx------ etc/vrgate/",
		"drwx------ etc/vrgate/vr/",
		"-rw-r--r-- lib/systemd/system/vrgate.service",
		"-rw-r--r-- usr/lib/modules-load.d/vrgate.conf",
		"-rw-r--r-- usr/lib/sysctl.d/60-vrgate.conf",
		"-rwxr-xr-x usr/sbin/vrgate",
		"-rw-r--r-- usr/share/bash-completion/completions/vrgate",
		"-rw-r--r-- usr/share/doc/vrgate/configuration.md",
		"-rw-r--r-- usr/share/doc/vrgate/examples/carrier/vr/lns.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/carrier/vrgate.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/home-lab/vr/home.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/home-lab/vrgate.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/legacy-clients/vr/main.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/legacy-clients/vrgate.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/radius/vr/main.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/radius/vr/partner.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/radius/vrgate.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/remote-access/certificates.sh",
		"-rw-r--r-- usr/share/doc/vrgate/examples/remote-access/vr/main.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/remote-access/vrgate.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/site-to-site/vr/blue.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/site-to-site/vr/front.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/site-to-site/vr/red.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/site-to-site/vrgate.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/two-tenants/vr/blue.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/two-tenants/vr/red.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/two-tenants/vrgate.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/vrf/vr/inside.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/vrf/vr/outside.yaml",
		"-rw-r--r-- usr/share/doc/vrgate/examples/vrf/vrgate.yaml",
		"-rw-r--r-- usr/share/vrgate/process.schema.json",
		"-rw-r--r-- usr/share/vrgate/router.schema.json",
	}
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Errorf("installed (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/vrgate/vrgate.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	script("uninstall.sh")
	if diff := cmp.Diff([]string{"drwx------ etc/vrgate/", "-rw------- etc/vrgate/vrgate.yaml"}, tree(t, root)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	script("uninstall.sh", "--purge")
	if left := tree(t, root); len(left) > 0 {
		t.Errorf("left after --purge: %v", left)
	}
}

// TestUnit: the exit statuses after which systemd must not try again are ours,
// and nothing gives the service a mount namespace.
func TestUnit(t *testing.T) {
	data, err := os.ReadFile("../../deploy/vrgate.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			settings[key] = value
		}
	}
	for key, want := range map[string]string{
		"Type": "notify", "ExecStart": "/usr/sbin/vrgate run", "Restart": "on-failure", "RestartPreventExitStatus": "2 3 4", "WatchdogSec": "30",
		"CapabilityBoundingSet": "CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_ADMIN CAP_CHOWN",
	} {
		if settings[key] != want {
			t.Errorf("%s is %q, want %q", key, settings[key], want)
		}
	}
	if [...]int{exitUsage, exitConfig, exitRunning} != [...]int{2, 3, 4} {
		t.Error("the exit statuses have changed, the unit has not")
	}
	for _, key := range []string{
		"ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
		"ProtectControlGroups", "ProtectProc", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths", "TemporaryFileSystem",
		"MountFlags", "PrivateMounts", "PrivateNetwork", "DynamicUser", "RootDirectory",
	} {
		if _, ok := settings[key]; ok {
			t.Errorf("%s gives the service a mount namespace, in which its network namespaces are hidden", key)
		}
	}
}
