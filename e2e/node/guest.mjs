// Asks the guest API from inside a container with clients that devlxd's authors
// did not write: Node's http and undici (llhttp, strict) and ws. Prints one JSON
// document with what was received; the Go test checks it.
import http from 'node:http';
import { Client } from 'undici';
import WebSocket from 'ws';

const socketPath = process.env.SOCKET ?? '/dev/lxd/sock';
const events = Number(process.env.EVENTS ?? 0);

function get(path, agent) {
  return new Promise((resolve, reject) => {
    http.get({ socketPath, path, agent, headers: { Host: 'lxd' } }, (res) => {
      let body = '';
      res.setEncoding('utf8');
      res.on('data', (chunk) => { body += chunk; });
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body }));
    }).on('error', reject);
  });
}

async function keepAlive() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const answers = [];
  for (const path of ['/', '/1.0', '/1.0/config', '/1.0/config/user.name', '/1.0/meta-data', '/1.0/devices', '/nope']) {
    answers.push({ path, ...await get(path, agent) });
  }
  agent.destroy();
  return answers;
}

async function pipelined() {
  const client = new Client('http://lxd', { socketPath, pipelining: 32 });
  const answers = await Promise.all(Array.from({ length: 200 }, async (_, i) => {
    const path = i % 2 ? '/1.0/config/user.name' : `/1.0/config/user.n${i}`;
    const { statusCode, body } = await client.request({ path, method: 'GET' });
    return { path, status: statusCode, body: await body.text() };
  }));
  await client.close();
  return answers;
}

function subscribe() {
  return new Promise((resolve, reject) => {
    const received = [];
    const ws = new WebSocket(`ws+unix:${socketPath}:/1.0/events?type=config`, { perMessageDeflate: true });
    let pongs = 0;
    ws.on('open', () => { ws.ping(); process.stderr.write('subscribed\n'); });
    ws.on('pong', () => { pongs++; });
    ws.on('message', (data, binary) => {
      received.push({ binary, text: data.toString() });
      if (received.length === events) ws.close(1000, 'enough');
    });
    ws.on('close', (code) => resolve({ received, pongs, code, extensions: ws.extensions }));
    ws.on('error', reject);
  });
}

const result = events > 0 ? await subscribe() : { keepAlive: await keepAlive(), pipelined: await pipelined() };
process.stdout.write(`${JSON.stringify(result)}\n`);
