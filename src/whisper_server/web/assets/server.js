// Requests to this server, and its refusals as sentences.

import { keyHeaders } from "./key.js";

export class Refusal extends Error {
  /** `status` is 0 if no answer came. */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }

  get unreachable() {
    return this.status === 0;
  }
}

export const address = (path) => new URL(path, document.baseURI).href;

const GONE = "The server does not answer.";
const refused = (status) => `The server’s answer was ${status}.`;

/** Resolve to the answer; reject with a Refusal, or an AbortError. */
export async function ask(path, { headers = {}, ...options } = {}) {
  const request = { ...options, headers: { ...keyHeaders(), ...headers } };
  const response = await fetch(address(path), request).catch((error) => {
    throw error.name === "AbortError" ? error : new Refusal(GONE);
  });
  if (!response.ok) throw refusal(response.status, await response.text().catch(() => ""));
  return response;
}

export async function askJson(path, options) {
  const response = await ask(path, options);
  return response.json().catch((error) => {
    throw error.name === "AbortError" ? error : new Refusal(GONE);
  });
}

export function postJson(path, content) {
  return askJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) });
}

/** Post a form with a view of how much has gone; `received` gets the answer as far as it is here. */
export function upload(path, form, { signal, headers = {}, sending = () => {}, sent = () => {}, received = () => {} } = {}) {
  const request = new XMLHttpRequest();
  request.open("POST", address(path));
  for (const [name, value] of Object.entries({ ...keyHeaders(), ...headers })) request.setRequestHeader(name, value);
  request.upload.onprogress = ({ loaded, total }) => sending(loaded, total);
  request.upload.onload = () => sent();
  request.onprogress = () => request.status === 200 && received(request.responseText);
  signal?.addEventListener("abort", () => request.abort());
  return new Promise((resolve, reject) => {
    request.onload = () => (request.status < 300 ? resolve(request.responseText) : reject(refusal(request.status, request.responseText)));
    request.onerror = () => reject(new Refusal(GONE));
    request.onabort = () => reject(new DOMException("Cancelled.", "AbortError"));
    request.send(form);
  });
}

/** Resolve once the server answers again. */
export async function back(signal) {
  for (;;) {
    await pause(1000, signal);
    const answer = await fetch(address("health"), { signal }).catch(() => null);
    signal?.throwIfAborted();
    if (answer?.ok) return;
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("Cancelled.", "AbortError"));
    });
  });
}

function refusal(status, body) {
  if (status === 401) document.dispatchEvent(new Event("locked"));
  return new Refusal(sentence(body) || refused(status), status);
}

/** Errors are `{"error": "…"}`, and below /v1 `{"error": {"message": "…"}}`. */
function sentence(body) {
  try {
    const { error } = JSON.parse(body);
    return typeof error === "string" ? error : error.message;
  } catch {
    return "";
  }
}
