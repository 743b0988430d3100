package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"
)

const (
	contentJSON = "application/json"
	contentText = "text/plain; charset=utf-8"

	// statusSuccess and codeSuccess are what LXD puts into every envelope of
	// an answer that worked, whatever the HTTP status is.
	statusSuccess = "Success"
	codeSuccess   = 200
)

// sendSync answers with metadata in an envelope.
func sendSync(ctx *fasthttp.RequestCtx, r reply) error {
	metadata, err := encode(r.metadata)
	if err != nil {
		return err
	}
	body, err := encode(Response{Type: TypeSync, Status: statusSuccess, StatusCode: codeSuccess, Metadata: metadata})
	if err != nil {
		return err
	}
	if r.location != "" {
		ctx.Response.Header.Set("Location", r.location)
		ctx.SetStatusCode(http.StatusCreated)
	}
	ctx.SetContentType(contentJSON)
	ctx.SetBody(body)
	return nil
}

// sendError answers with an error in an envelope.
func sendError(ctx *fasthttp.RequestCtx, err error) {
	code := codeOf(err)
	ctx.SetStatusCode(code)
	ctx.SetContentType(contentJSON)
	ctx.SetBody(errorEnvelope(code, err))
}

// errorEnvelope is the body of an answer with an error, and the last line of
// an event stream that ends with one.
func errorEnvelope(code int, err error) []byte {
	body, encodeErr := encode(Response{Type: TypeError, ErrorCode: code, Error: oneLine(err.Error())})
	if encodeErr != nil {
		// A struct of strings and numbers always encodes.
		return []byte(`{"type":"error","error_code":500,"error":"internal error"}` + "\n")
	}
	return body
}

// encode is json.Marshal with a final newline, and with '<', '>' and '&' as
// they are: LXD does so, and people read it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// oneLine keeps an error on one line.
func oneLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", "; ").Replace(s)
}

func sendText(ctx *fasthttp.RequestCtx, code int, text string) {
	ctx.SetStatusCode(code)
	ctx.SetContentType(contentText)
	ctx.SetBodyString(text)
}
