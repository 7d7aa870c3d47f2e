package main

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vrgate/controlplane/config"
)

var levels = map[config.LogLevel]zapcore.Level{
	config.LogDebug: zapcore.DebugLevel,
	config.LogInfo:  zapcore.InfoLevel,
	config.LogWarn:  zapcore.WarnLevel,
	config.LogError: zapcore.ErrorLevel,
}

// newLogger returns the daemon's logger, and its level, which may change. Lines go to w whole, one at a time.
func newLogger(c config.Log, w io.Writer) (*zap.Logger, zap.AtomicLevel) {
	level := zap.NewAtomicLevelAt(levels[c.Level])
	var enc zapcore.Encoder
	if c.Format == config.LogJSON {
		e := zap.NewProductionEncoderConfig()
		e.TimeKey = "time"
		e.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		e.EncodeDuration = zapcore.StringDurationEncoder
		enc = zapcore.NewJSONEncoder(e)
	} else {
		e := zap.NewDevelopmentEncoderConfig()
		e.EncodeTime = zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00")
		e.EncodeLevel = zapcore.LowercaseLevelEncoder
		enc = zapcore.NewConsoleEncoder(e)
	}
	core := zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), level)
	return zap.New(core), level
}
