// The demo page: sends one file to POST /recognise, shows the segments of the answer and makes files of them here.
"use strict";

const byId = (id) => document.getElementById(id);

const UNREACHABLE =
  "No answer came: the server may be down, the file too large for it, or the file no longer readable.";

// What is on screen: the upload that can be cancelled, its clock, and the transcript that can be saved.
let upload = null;
let ticking = 0;
let transcript = null;

// Numbers as text

const pad = (number, digits) => String(number).padStart(digits, "0");

/** Seconds as m:ss.d */
function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  return `${Math.floor(tenths / 600)}:${pad(Math.floor(tenths / 10) % 60, 2)}.${tenths % 10}`;
}

const span = ({ start, end }) => `${clock(start)} – ${clock(end)}`;

/** Seconds as subtitle files have them; VTT leaves out hours that are none, as openai-whisper does. */
function timestamp(seconds, mark, alwaysHours) {
  const total = Math.round(seconds * 1000);
  const hours = Math.floor(total / 3_600_000);
  const minutes = pad(Math.floor(total / 60_000) % 60, 2);
  const rest = `${minutes}:${pad(Math.floor(total / 1000) % 60, 2)}${mark}${pad(total % 1000, 3)}`;
  return hours || alwaysHours ? `${pad(hours, 2)}:${rest}` : rest;
}

function duration(seconds, digits = 0) {
  if (seconds < 60) return `${seconds.toFixed(digits)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

const languageName = (code) => new Intl.DisplayNames(["en"], { type: "language" }).of(code);

// Transcripts as files, laid out as the server's response_format lays them out

function cue({ start, end, text }, mark, alwaysHours) {
  const times = [start, end].map((seconds) => timestamp(seconds, mark, alwaysHours));
  return `${times.join(" --> ")}\n${text.trim().replaceAll("-->", "->")}\n\n`;
}

const FILES = {
  txt: { type: "text/plain", write: ({ segments }) => segments.map(({ text }) => `${text.trim()}\n`).join("") },
  srt: {
    type: "application/x-subrip",
    write: ({ segments }) => segments.map((segment, i) => `${i + 1}\n${cue(segment, ",", true)}`).join(""),
  },
  vtt: {
    type: "text/vtt",
    write: ({ segments }) => "WEBVTT\n\n" + segments.map((segment) => cue(segment, ".", false)).join(""),
  },
  json: { type: "application/json", write: (transcription) => JSON.stringify(transcription, null, 2) + "\n" },
};

const plainText = ({ segments }) => segments.map(({ text }) => text).join("").trim();

// The request

/** Resolve to the request once it is answered; reject with a sentence for the user. */
function post(body) {
  upload = new XMLHttpRequest();
  upload.upload.onprogress = showUploading;
  upload.upload.onload = showWorking;
  upload.open("POST", byId("form").action);
  upload.responseType = "json";
  return new Promise((resolve, reject) => {
    upload.onload = () => resolve(upload);
    upload.onerror = () => reject(new Error(UNREACHABLE));
    upload.onabort = () => reject(new DOMException("Cancelled.", "AbortError"));
    upload.send(body);
  });
}

function transcriptionIn({ response, status, statusText }) {
  const answer = `The server’s answer (${`${status} ${statusText}`.trim()})`;
  if (response === null) throw new Error(`${answer} is not JSON.`);
  if (typeof response.error === "string") throw new Error(response.error);
  if (!Array.isArray(response.transcription?.segments)) throw new Error(`${answer} has no transcription.`);
  return response.transcription;
}

function fields() {
  const body = new FormData(byId("form"));
  body.set("language", byId("language").value.trim());
  return body;
}

async function submit(event) {
  event.preventDefault();
  const [file] = byId("file").files;
  const translated = byId("task").value === "translate";
  const body = fields();
  const started = performance.now();
  setBusy(true);
  try {
    const transcription = transcriptionIn(await post(body));
    setBusy(false);
    transcript = { transcription, name: file.name.replace(/\.[^.]+$/, "") };
    showTranscript(transcription, translated, (performance.now() - started) / 1000);
  } catch (error) {
    setBusy(false);
    showFailure(error);
  }
}

// What the page shows

function setBusy(busy) {
  clearInterval(ticking);
  byId("controls").disabled = busy;
  byId("busy").hidden = !busy;
  if (busy) byId("result").hidden = true;
  byId("error").textContent = "";
  say(busy ? "Uploading" : "");
  byId("bar").value = 0;
}

/** The status is read out, so the amount, which changes all the time, stands beside it. */
function say(status, amount = "") {
  if (byId("status").textContent !== status) byId("status").textContent = status;
  byId("amount").textContent = amount;
}

function showUploading({ loaded, total }) {
  byId("bar").value = loaded / total;
  say("Uploading", `${size(loaded)} of ${size(total)}, ${Math.floor((100 * loaded) / total)} %`);
}

function showWorking() {
  const started = performance.now();
  const tick = () => say("Transcribing", duration(Math.floor((performance.now() - started) / 1000)));
  byId("bar").removeAttribute("value");
  tick();
  ticking = setInterval(tick, 1000);
}

function showFailure(error) {
  if (error.name === "AbortError") say(error.message);
  else byId("error").textContent = error.message;
  byId("submit").focus();
}

function showTranscript({ segments, language }, translated, seconds) {
  const spoken = languageName(language) + (translated && language !== "en" ? ", translated into English" : "");
  const count = segments.length === 1 ? "1 segment" : `${segments.length} segments`;
  byId("facts").textContent = segments.length
    ? `${spoken} · ${count} · took ${duration(seconds, 1)}`
    : `No speech was found · took ${duration(seconds, 1)}`;
  byId("segments").lang = translated ? "en" : language;
  const items = document.createDocumentFragment();
  for (const segment of segments) items.append(segmentItem(segment));
  byId("segments").replaceChildren(items);
  byId("result").hidden = false;
  byId("result-title").focus();
}

function segmentItem(segment) {
  const text = element("p", "", segment.words ? "" : segment.text.trim());
  text.dir = "auto";
  for (const word of segment.words ?? []) text.append(wordSpan(word));
  const item = element("li");
  item.append(element("span", "times", span(segment)), text);
  return item;
}

function wordSpan(word) {
  const shown = element("span", "word", word.word);
  shown.title = span(word);
  return shown;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function showFile() {
  const [file] = byId("file").files;
  byId("file-name").textContent = file ? file.name : "Choose a recording or drop it here";
  byId("file-size").textContent = file ? `${size(file.size)} · choose another` : "Audio or video";
}

// Copying and saving

async function copy({ currentTarget: button }) {
  const copied = await copyText(plainText(transcript.transcription));
  button.textContent = copied ? "Copied" : "Copying failed";
  setTimeout(() => (button.textContent = "Copy text"), 2000);
}

/** Browsers have no navigator.clipboard on plain HTTP, which is how a local network reaches this server. */
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = element("textarea", "unseen", text);
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused.focus();
  return copied;
}

function save({ currentTarget: { dataset } }) {
  const { type, write } = FILES[dataset.download];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(transcript.transcription)], { type }));
  link.download = `${transcript.name}.${dataset.download}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Dropping: anywhere on the page, because a near miss would make the browser leave it and open the file

function drag(event) {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  const welcome = !byId("controls").disabled;
  event.dataTransfer.dropEffect = welcome ? "copy" : "none";
  byId("drop").classList.toggle("over", welcome && event.type === "dragover");
  if (event.type === "drop" && welcome) choose(event.dataTransfer.files[0]);
}

function choose(file) {
  if (!file) return;
  const one = new DataTransfer();
  one.items.add(file);
  byId("file").files = one.files;
  showFile();
}

byId("form").addEventListener("submit", submit);
byId("file").addEventListener("change", showFile);
byId("cancel").addEventListener("click", () => upload.abort());
byId("copy").addEventListener("click", copy);
for (const button of document.querySelectorAll("[data-download]")) button.addEventListener("click", save);
for (const type of ["dragover", "dragleave", "drop"]) window.addEventListener(type, drag);
showFile();
