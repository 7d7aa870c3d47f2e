package main

import (
	"go.uber.org/zap"

	"vrgate/cmd/vrgate/kernel"
	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/store"
)

// productionControlPlane is the control plane on this machine's kernel.
func productionControlPlane(cfg *config.Config, st *store.Store, log *zap.Logger) (controlPlane, error) {
	return controlplane.New(cfg, kernel.New(), st, log)
}
