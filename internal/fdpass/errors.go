package fdpass

import "errors"

var (
	// ErrEnded: the other process closed its end, or ended.
	ErrEnded = errors.New("other process ended or closed the connection")
	// ErrDamaged: what came is not a message, or not as it was sent.
	ErrDamaged = errors.New("message is damaged: both processes must be devlxd")
	// ErrTooLarge: a message has more bytes or descriptors than a message can have.
	ErrTooLarge = errors.New("message is too large: divide it")
	// ErrDescriptors: this process is out of descriptors.
	ErrDescriptors = errors.New("cannot take all descriptors of a message: raise LimitNOFILE")
)

// UnexpectedError says that a message came where its receipt was to be acknowledged.
type UnexpectedError struct{ Message Message }

func (*UnexpectedError) Error() string { return "other process answers where it should acknowledge" }
