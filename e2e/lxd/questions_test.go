package lxd

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// questions are about what there is: each route, each key, what is not there, each method.
func questions(p *pair) (list []question) {
	routes := []string{"/", "/1.0", "/1.0/config", "/1.0/config/user.plain", "/1.0/meta-data", "/1.0/devices"}
	for _, path := range routes {
		methods := []string{"GET", "HEAD", "POST", "FOO"}
		if path == "/1.0" {
			methods = append(methods, "PUT", "DELETE", "OPTIONS")
		}
		for _, method := range methods {
			list = append(list, request(method, path))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(config())) {
		list = append(list, get("/1.0/config/"+url.PathEscape(key)))
	}
	for _, path := range []string{
		"/1.0/config/user.missing", "/1.0/config/user.", "/1.0/config/user", "/1.0/config/cloud-init.missing", "/1.0/config/cloud-init.",
		"/1.0/config/cloud-init", "/1.0/config/USER.plain", "/1.0/config/" + p.kind.GuestKey(), "/1.0/config/security.nesting",
		"/1.0/config/volatile.eth0.hwaddr", "/1.0/config/volatile.cloud-init.instance-id", "/1.0/config/image.description",
		"/1.0/config/user.plain%00", "/1.0/config/%75ser.plain", "/1.0/config/user.a/b", "/1.0/config/user.plain/", "/1.0/config/",
		"/1.0/config//user.plain", "/1.0/config/../config/user.plain", "/1.0/config/user.a%2Fb", "/1.0/config/user.a%252Fb",
		"/1.0/config/user.a+b", "/1.0/config/user.plain?x=1", "/1.0/config/user.plain#x", "/1.0/config/user.%zz", "/1.0/config?recursion=1",
		"/1.0/", "/1.0/nope", "/nope", "//1.0", "//", "/1.0/../1.0", "/./1.0", "/2.0", "/1.0/meta-data/", "/1.0/devices/eth0", "/1.0/events/",
		"/1.0/images", "/1.0/images/x", "/1.0/images/x/export", "/1.0/ubuntu-pro", "/1.0/instances", "/1.0?", "/?x",
	} {
		list = append(list, get(path))
	}
	for _, path := range []string{"/1.0/config", "/", "/nope"} {
		list = append(list, patch(path, `{"state":"Ready"}`))
	}
	return list
}

// statements are what a guest says of itself, and what is known then.
func statements() (list []question) {
	for _, body := range []string{
		`{"state":"Ready"}`, `{"state":"Started"}`, `{"state":"Ready","more":[1,2]}`, `{"state":"Running"}`, `{"state":"ready"}`, `{"STATE":"Ready"}`,
		`{"state":""}`, `{}`, ``, ` `, `{`, `[]`, `"Ready"`, `null`, `{"state":1}`, `{"state":"Ready"} trailing`, `{"state":"Ready"}{"state":"x"}`,
	} {
		list = append(list, patch("/1.0", body))
	}
	chunked := head("PATCH", "/1.0", "Transfer-Encoding: chunked")
	list = append(list,
		named("PATCH /1.0 in chunks", question{send: chunked + "5\r\n{\"sta\r\n5\r\nte\":\"\r\n7\r\nReady\"}\r\n0\r\n\r\n", methods: []string{"PATCH"}}),
		named("PATCH /1.0 in chunks with an extension", question{send: chunked + "13;x=y\r\n{\"state\":\"Started\"}\r\n0\r\n\r\n", methods: []string{"PATCH"}, status: true}),
		named("PATCH /1.0 to Ready", patch("/1.0", `{"state":"Ready"}`)),
		named("GET /1.0 when Ready", get("/1.0")),
		named("PATCH /1.0 to Started", patch("/1.0", `{"state":"Started"}`)),
		named("GET /1.0 when Started", get("/1.0")),
	)
	return list
}

func named(name string, q question) question {
	q.name = name
	return q
}

// wireQuestions are about HTTP. In which words its parser refuses something is not asked.
func wireQuestions() []question {
	const path = "/1.0/config/user.plain"
	one := head("GET", path)
	list := []question{
		{name: "two requests at once", send: one + head("GET", "/1.0/config/user.missing"), methods: []string{"GET", "GET"}},
		{name: "HEAD before GET at once", send: head("HEAD", "/nope") + one, methods: []string{"HEAD", "GET"}},
		{name: "a body that nobody asked for", send: head("GET", path, "Content-Length: 3") + "abc" + one, methods: []string{"GET", "GET"}},
		{name: "a chunked body that nobody asked for", send: head("GET", path, "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n" + one, methods: []string{"GET", "GET"}},
		get(path, "Connection: close"), get(path, "Connection: keep-alive"), get(path, "Accept-Encoding: gzip"),
		get(path, "Range: bytes=0-0"), get(path, "If-None-Match: *"), get(path, "Origin: http://elsewhere"), get(path, "Expect: nonsense"),
		{name: "Expect: 100-continue", send: head("PATCH", "/1.0", "Content-Length: 19", "Expect: 100-continue") + `{"state":"Started"}`, methods: []string{"PATCH"}},
		raw("HTTP/1.0", "GET "+path+" HTTP/1.0", "", ""),
		raw("HTTP/1.0 with Host", "GET "+path+" HTTP/1.0", "Host: lxd", "", ""),
		raw("HTTP/1.0 with keep-alive", "GET "+path+" HTTP/1.0", "Connection: keep-alive", "", ""),
		raw("HTTP/1.0, the long value", "GET /1.0/config/user.long HTTP/1.0", "", ""),
		raw("HTTP/1.1 without Host", "GET "+path+" HTTP/1.1", "", ""),
		raw("an empty Host", "GET "+path+" HTTP/1.1", "Host:", "", ""),
		raw("another Host", "GET "+path+" HTTP/1.1", "Host: meshuggah-rocks", "", ""),
		raw("two Hosts", "GET "+path+" HTTP/1.1", "Host: a", "Host: b", "", ""),
		raw("a bad Host", "GET "+path+" HTTP/1.1", "Host: a b", "", ""),
		raw("the absolute form", "GET http://lxd"+path+" HTTP/1.1", "Host: lxd", "", ""),
		raw("the absolute form of another", "GET http://other"+path+" HTTP/1.1", "Host: lxd", "", ""),
		raw("the asterisk form", "OPTIONS * HTTP/1.1", "Host: lxd", "", ""),
		raw("HTTP/1.2", "GET "+path+" HTTP/1.2", "Host: lxd", "", ""),
		raw("HTTP/2.0", "GET "+path+" HTTP/2.0", "Host: lxd", "", ""),
		raw("HTTP/2 with prior knowledge", "PRI * HTTP/2.0", "", "SM", "", ""),
		raw("HTTP/0.9", "GET "+path, "", ""),
		raw("no version", "GET "+path+" ", "Host: lxd", "", ""),
		raw("a method in lower case", "get "+path+" HTTP/1.1", "Host: lxd", "", ""),
		raw("no slash", "GET 1.0 HTTP/1.1", "Host: lxd", "", ""),
		raw("an empty line before", "", "GET "+path+" HTTP/1.1", "Host: lxd", "", ""),
		raw("bare line feeds", "GET "+path+" HTTP/1.1\nHost: lxd\n\n"),
		raw("a space before the colon", "GET "+path+" HTTP/1.1", "Host : lxd", "", ""),
		raw("a folded header", "GET "+path+" HTTP/1.1", "Host: lxd", "X-A: b", " c", "", ""),
		raw("a header without colon", "GET "+path+" HTTP/1.1", "Host: lxd", "nonsense", "", ""),
		raw("a header without name", "GET "+path+" HTTP/1.1", "Host: lxd", ": x", "", ""),
		raw("a null byte in a header", "GET "+path+" HTTP/1.1", "Host: lxd", "X: a\x00b", "", ""),
		raw("both lengths", "GET "+path+" HTTP/1.1", "Host: lxd", "Content-Length: 3", "Transfer-Encoding: chunked", "", "0", "", ""),
		raw("two lengths", "GET "+path+" HTTP/1.1", "Host: lxd", "Content-Length: 3", "Content-Length: 4", "", "abc"),
		raw("a negative length", "GET "+path+" HTTP/1.1", "Host: lxd", "Content-Length: -1", "", ""),
		raw("an unknown coding", "GET "+path+" HTTP/1.1", "Host: lxd", "Transfer-Encoding: gzip, chunked", "", "0", "", ""),
		raw("a long head", "GET "+path+" HTTP/1.1", "Host: lxd", "X: "+strings.Repeat("x", 20_000), "", ""),
		raw("nonsense", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "", ""),
	}
	for i, q := range list {
		list[i].status = true
		list[i].name = fmt.Sprint("wire: ", strings.TrimPrefix(q.name, "GET "+path+", "))
	}
	return list
}
