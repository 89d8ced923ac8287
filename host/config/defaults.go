package config

import (
	"log/slog"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// defaults returns what is in force where the configuration is silent. Defaults that follow from other values are not here:
// dataplane.data_dir (beside the file), store.path (in data_dir), a listener's url (its address), a profile's direction, endpoint_type
// and strict (its name) and renewal (strict), a participant context's key (in data_dir) and key_id (its did), and in a control plane
// subject (its label), audiences (the data plane's id) and where it registers.
func defaults() *Config {
	return &Config{
		Signaling:         Listener{Address: "127.0.0.1:18080"},
		Public:            Listener{Address: "127.0.0.1:18081"},
		Admin:             Listener{Address: "127.0.0.1:18082"},
		SignalingSettings: SignalingSettings{AnswerWithin: 2 * time.Second},
		Outbound:          Outbound{Timeout: 10 * time.Second},
		Plugins:           Plugins{Trust: TrustPinned, Watch: true},
		Token: Token{Lifetime: time.Hour, MaxConcurrent: 16, RefreshLifetime: 30 * 24 * time.Hour,
			RenewalGrace: 10 * time.Minute}, // in which an answer that was lost can be had again
		Transfer: Transfer{
			Digests:            []sdk.Algorithm{sdk.CRC32C},
			CheckpointInterval: time.Second, // what a crash costs at most in work done twice
			UploadLifetime:     7 * 24 * time.Hour,
			Retry:              Retry{First: 500 * time.Millisecond, Max: 30 * time.Second, GiveUpAfter: 10 * time.Minute},
			Watchdog:           Watchdog{StalledAfter: time.Minute, RestartAfter: 5 * time.Minute, TrustHealth: true},
		},
		Telemetry: Telemetry{LogLevel: slog.LevelInfo, LogFormat: LogText},
	}
}

// pluginDefaults are the defaults of every plugin block.
func pluginDefaults() Plugin {
	return Plugin{StartTimeout: 15 * time.Second, DrainTimeout: 10 * time.Second, StopTimeout: 5 * time.Second,
		HandoverTimeout: 30 * time.Second, Lane: LaneAuto, MTLS: MTLSAuto, Start: StartOnDemand, Isolation: IsolationShared,
		MaxProcesses: 32, QuarantineAfter: 5}
}

// controlPlaneDefaults are the defaults of every control_plane block.
func controlPlaneDefaults() ControlPlane {
	return ControlPlane{
		ParticipantContext: DefaultContext,
		Protocol:           ProtocolDPS,
		GiveUpAfter:        24 * time.Hour, // an operator's night, and the day to repair it
		Timeout:            10 * time.Second,
	}
}

// The names of files and folders that are made where no path is given.
const (
	defaultDataDir   = "state"
	defaultStoreFile = "towpath.db"
	defaultKeyDir    = "keys"
)
