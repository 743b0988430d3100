package apitest

import "errors"

// Errors of [New]: a document is not what the package can work with.
var (
	// ErrDocument: it is no OpenAPI document.
	ErrDocument = errors.New("not an OpenAPI document: check its YAML")
	// ErrReference: a $ref points at nothing.
	ErrReference = errors.New("reference points at nothing: define it below components")
)

// Errors of [Checker.Check], each with the details around it.
var (
	// ErrStatus: the status is not documented for the request.
	ErrStatus = errors.New("status is not documented")
	// ErrHeader: a field is not documented, is missing, or has another value.
	ErrHeader = errors.New("header is not as documented")
	// ErrContent: the media type is not documented, or the body is another than documented.
	ErrContent = errors.New("content is not as documented")
	// ErrRequest: the server took what is not documented.
	ErrRequest = errors.New("request is not as documented, but was answered well")
)

// ErrOpen of [Checker.Settle]: connections of a tap are not closed.
var ErrOpen = errors.New("connections of a tap are still open: close the clients and the server")
