package logging

import "errors"

var (
	errFormat = errors.New("unknown log format: use auto, text or json")
	errLevel  = errors.New("unknown log level: use debug, info, warn or error")
)
