// Reads requests on standard input and says on standard output what Node's HTTP parser (llhttp, without its lenient flags) makes of
// the first request in each. Both directions carry frames: a length in four bytes, big-endian, then so many bytes. Answers are JSON;
// strings in it hold one character for each byte. The first frame describes the parser.
'use strict';
const { HTTPParser, methods } = require('_http_common');

// first feeds byte by byte, so that the end of the request is known to the byte.
function first(raw) {
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {}, 1 << 20, 0);
  const seen = { fields: [], target: '', body: '' };
  let headDone = false, done = false;
  parser[HTTPParser.kOnHeaders | 0] = (fields, target) => {
    if (headDone) return; // a trailer
    seen.fields.push(...fields);
    seen.target += target;
  };
  parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, fields, method, target, status, reason, upgrade, keepAlive) => {
    headDone = true;
    if (fields) seen.fields.push(...fields);
    if (target) seen.target += target;
    Object.assign(seen, { major, minor, method: methods[method] ?? '', upgrade, keepAlive });
    return 0;
  };
  parser[HTTPParser.kOnBody | 0] = (data) => { seen.body += data.toString('latin1'); };
  parser[HTTPParser.kOnMessageComplete | 0] = () => { done = true; };
  for (let i = 0; i < raw.length; i++) {
    const result = parser.execute(raw.subarray(i, i + 1));
    if (done) return { ...seen, consumed: i + 1 };
    if (result instanceof Error) return { error: result.code, reason: result.reason };
  }
  return { partial: true };
}

function send(value) {
  const text = Buffer.from(JSON.stringify(value));
  const frame = Buffer.alloc(4 + text.length);
  frame.writeUInt32BE(text.length);
  text.copy(frame, 4);
  process.stdout.write(frame);
}

send({ llhttp: process.versions.llhttp, methods });
let unread = Buffer.alloc(0);
process.stdin.on('data', (data) => {
  unread = Buffer.concat([unread, data]);
  while (unread.length >= 4 && unread.length - 4 >= unread.readUInt32BE()) {
    const end = 4 + unread.readUInt32BE();
    send(first(unread.subarray(4, end)));
    unread = unread.subarray(end);
  }
});
