package logging

import "errors"

var (
	errFormat = errors.New("use auto, text or json")
	errLevel  = errors.New("use debug, info, warn or error")
)
