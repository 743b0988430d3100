// Package apitest holds what servers really answer against the OpenAPI
// documents of package api, in tests.
//
// A [Checker] knows one document, in all its dialects. It is given exchanges,
// one by one with [Checker.Check], or as what went over a connection in both
// directions: [Recorder] takes the bytes, and [Tap] puts one around every
// connection of a listener. What is not documented is an error: a status, a
// header field, a media type, a member of a body, a line of a stream, and in a
// request that was answered well a parameter or a member of its body. The
// other way round, [Checker.Unseen] lists what is documented and was in no
// answer.
//
// kin-openapi reads the documents and says whether they are proper OpenAPI 3.1;
// the schemas are compiled once by the validator of JSON Schema 2020-12 that it
// uses itself, since kin-openapi compiles a schema anew for each value, and
// takes its validator for OpenAPI 3.0 where one does not compile.
package apitest
