package admin

import (
	"log/slog"
	"net/http"

	"devlxd/internal/logging"
)

// LogLevel is what the level of a log is shown and changed by. Safe for concurrent use.
type LogLevel interface {
	// LogLevel is the name of the level: debug, info, warn or error.
	LogLevel() string
	// SetLogLevel has lines below the level left out from now on. The error says what is wrong with the name.
	SetLogLevel(name string) error
}

// LogLevelPut is the body of PUT /1.0/log-level, and the metadata of GET.
type LogLevelPut struct {
	Level string `json:"level"`
}

// showLogLevel: GET /1.0/log-level.
func (s *Server) showLogLevel(*request) (reply, error) {
	if s.options.LogLevel == nil {
		return reply{}, errLogLevelOff
	}
	return reply{metadata: LogLevelPut{s.options.LogLevel.LogLevel()}}, nil
}

// setLogLevel: PUT /1.0/log-level. The level counts until the settings are read again, or the process ends.
func (s *Server) setLogLevel(r *request) (reply, error) {
	if s.options.LogLevel == nil {
		return reply{}, errLogLevelOff
	}
	var put LogLevelPut
	if err := r.decode(&put); err != nil {
		return reply{}, err
	}
	was := s.options.LogLevel.LogLevel()
	told := s.log.Enabled(r, slog.LevelInfo) // else the line is one of the new level
	if told {
		s.log.Info("log level changes", "from", was, "to", logging.Guest(put.Level))
	}
	if err := s.options.LogLevel.SetLogLevel(put.Level); err != nil {
		return reply{}, errorf(http.StatusBadRequest, "level: %v", err)
	}
	if !told {
		s.log.Info("log level changes", "from", was, "to", put.Level)
	}
	return reply{}, nil
}
