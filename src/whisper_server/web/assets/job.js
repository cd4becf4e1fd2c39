// The server's jobs: a file that it keeps and transcribes, whatever becomes of this page.

import { Refusal, ask, askJson, back, pause, upload } from "./server.js";
import { EventReader } from "./sse.js";

const ENDS = ["succeeded", "failed", "cancelled"];
const ATTEMPTS = 2;

export const isJob = (name) => /^job_\w+$/.test(name);
export const ended = ({ state }) => ENDS.includes(state);

/** Post files and resolve to their jobs. If the server goes away meanwhile, wait for it and begin again. */
export async function submit(files, fields, { signal, gone, ...watching }) {
  const headers = { "idempotency-key": token() };
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = JSON.parse(await upload("v1/jobs", form(files, fields), { signal, headers, ...watching }));
      return answer.data ?? [answer];
    } catch (error) {
      if (!error.unreachable) throw error;
      if (await ask("health", { signal }).then(() => true, () => false)) await pause(delay(attempt), signal);
      else {
        attempt = 0;
        gone();
        await back(signal);
      }
    }
  }
}

function delay(attempt) {
  if (attempt < ATTEMPTS) return 500;
  throw new Refusal("The upload was cut off. The file may be too large for this server, or no longer readable.");
}

function form(files, fields) {
  const content = new FormData();
  for (const [name, value] of fields) content.append(name, value);
  content.append("response_format", "verbose_json");
  content.append("timestamp_granularities[]", "segment");
  if (fields.some(([name, value]) => name === "word_timestamps" && value)) content.append("timestamp_granularities[]", "word");
  content.append("keep_audio", "true");
  for (const file of files) content.append("file", file, file.name);
  return content;
}

export const list = (after = "") => askJson(`v1/jobs?limit=10${after && `&after=${after}`}`);
export const find = (id) => askJson(`v1/jobs/${id}`);
export const cancel = (id) => askJson(`v1/jobs/${id}/cancel`, { method: "POST" });
export const remove = (id) => askJson(`v1/jobs/${id}`, { method: "DELETE" });
export const audioOf = (id) => `v1/jobs/${id}/audio`;

/** Resolve to OpenAI's verbose_json, with words if the job was posted for them. */
export function result({ id, response_format: format }) {
  const query = format === "verbose_json" ? "" : "?response_format=verbose_json&timestamp_granularities[]=segment";
  return askJson(`v1/jobs/${id}/result${query}`);
}

/** The job's events, over all breaks of the connection, until it has ended. */
export async function* follow(id, { signal, gone }) {
  let last = 0;
  for (;;) {
    try {
      const response = await ask(`v1/jobs/${id}/events?last_event_id=${last}`, { signal });
      if (response.status === 204) return;
      for await (const event of eventsOf(response)) {
        last = event.id ?? last;
        if (event.data.error && !event.data.type) throw new Refusal(event.data.error.message);
        yield event.data;
        if (ended({ state: event.data.type.replace("job.", "") })) return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Refusal && !error.unreachable && error.status !== 503)) throw error;
    }
    gone();
    await back(signal);
  }
}

async function* eventsOf(response) {
  const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  try {
    for (;;) {
      const { done, value } = await pieces.read();
      if (done) return;
      yield* events.read(value);
    }
  } finally {
    pieces.cancel().catch(() => {}); // a connection that is broken cannot be ended
  }
}

/** crypto.randomUUID is for https and localhost only. */
function token() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
