#!/usr/bin/env node
// Ask the guest API of LXD, Incus or devlxd from inside a container.
//
//     guest.mjs read            print each key and its value
//     guest.mjs wait KEY        wait until a key exists, and print its value
//     guest.mjs follow          print the configuration, and then what changes
//
// Node's own modules are all it needs.
import http from 'node:http';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const socketPath = process.env.DEVLXD_SOCKET ?? '/dev/lxd/sock';

// open returns the answer to GET path, whose body is yet to be read. It tries
// until the server is there and knows the container: 500 says to try again.
async function open(path) {
  for (let pause = 100; ; pause = Math.min(2 * pause, 5000)) {
    try {
      const answer = await new Promise((resolve, reject) => {
        http.get({ socketPath, path, agent: false, headers: { Host: 'lxd' } }, resolve).on('error', reject);
      });
      if (answer.statusCode < 500) return answer;
      answer.destroy();
    } catch { /* it is restarting */ }
    await sleep(pause);
  }
}

async function get(path) {
  for (;;) {
    const answer = await open(path);
    try {
      const parts = [];
      for await (const part of answer) parts.push(part);
      return { status: answer.statusCode, body: Buffer.concat(parts).toString() };
    } catch { /* it went away in the middle */ }
  }
}

// getKey returns the value of a key, or null.
async function getKey(key) {
  const { status, body } = await get(`/1.0/config/${encodeURIComponent(key)}`);
  if (status === 404) return null;
  if (status !== 200) throw new Error(`${key}: ${status} ${body.trim()}`);
  return body;
}

// config returns all keys and values.
async function config() {
  const { status, body } = await get('/1.0/config');
  if (status !== 200) throw new Error(`config: ${status} ${body.trim()}`);
  const values = new Map();
  for (const path of JSON.parse(body)) {
    const key = path.slice('/1.0/config/'.length);
    const value = await getKey(key);
    if (value !== null) values.set(key, value);
  }
  return values;
}

// events yields events for ever, and null where the configuration has to be read
// (again). The subscription stands when null comes, so between what is read then
// and the events that follow there is no gap.
async function* events(types) {
  let since;
  for (;;) {
    const query = new URLSearchParams({ type: types, position: 'true', ...(since && { since }) });
    const stream = await open(`/1.0/events?${query}`);
    if (stream.statusCode === 410) { // too much has happened, or the server was restarted
      since = undefined;
      stream.destroy();
      continue;
    }
    if (stream.statusCode !== 200) throw new Error(`events: ${stream.statusCode}`);
    const start = stream.headers['devlxd-position']; // LXD and Incus have no positions
    const lines = [];
    let wake = () => {};
    let ended = false;
    stream.on('error', () => {});
    readline.createInterface({ input: stream })
      .on('line', (line) => { lines.push(line); wake(); })
      .on('close', () => { ended = true; wake(); });
    if (!since || !start) {
      since = start;
      yield null;
    }
    while (lines.length > 0 || !ended) {
      if (lines.length === 0) {
        await new Promise((resolve) => { wake = resolve; });
        continue;
      }
      let event;
      try {
        event = JSON.parse(lines.shift());
      } catch {
        break; // cut: it comes again
      }
      since = event.position;
      yield event;
    }
    stream.destroy();
  }
}

// wait returns the value of a user.* key as soon as there is one.
async function wait(key) {
  for await (const event of events('config')) {
    if (event !== null && event.metadata.key !== key) continue;
    const value = await getKey(key);
    if (value !== null) return value;
  }
}

async function follow() {
  for await (const event of events('config')) {
    if (event === null) {
      for (const [key, value] of await config()) console.log('read', key, value);
    } else {
      console.log('changed', event.metadata.key, event.metadata.value);
    }
  }
}

const [command, key] = process.argv.slice(2);
switch (command) {
  case 'read':
    for (const [name, value] of await config()) console.log(name, value);
    break;
  case 'wait':
    console.log(await wait(key));
    process.exit(); // the stream is open
    break;
  case 'follow':
    await follow();
    break;
  default:
    console.error('use: guest.mjs read | wait KEY | follow');
    process.exit(2);
}
