// The transcription options, remembered in this browser.

import { byId, setText } from "../lib/dom.js";

const STORAGE_NAME = "whisper-server:options";
// The ids are also the names in the browser's storage.
const FIELDS = ["language", "task", "beam-size", "prompt", "hotwords"];
const CHECKBOXES = ["words", "vad"];

export function restoreOptions() {
  const saved = JSON.parse(localStorage.getItem(STORAGE_NAME) ?? "{}");
  for (const id of FIELDS) if (typeof saved[id] === "string") byId(id).value = saved[id];
  for (const id of CHECKBOXES) if (typeof saved[id] === "boolean") byId(id).checked = saved[id];
  byId("options").addEventListener("change", () => {
    localStorage.setItem(STORAGE_NAME, JSON.stringify(readOptions()));
    showSummary();
  });
  showSummary();
}

export const isTranslation = () => byId("task").value === "translate";

/** Return the form fields for /v1/jobs and /v1/audio/transcriptions as pairs of name and value. */
export function optionFields() {
  const { language, task, "beam-size": beamSize, prompt, hotwords, words, vad } = readOptions();
  const fields = { language, task, beam_size: beamSize, prompt, hotwords, word_timestamps: words, vad_filter: vad };
  return Object.entries(fields).filter(([, value]) => value !== "");
}

function readOptions() {
  const texts = FIELDS.map((id) => [id, byId(id).value.trim()]);
  return Object.fromEntries([...texts, ...CHECKBOXES.map((id) => [id, byId(id).checked])]);
}

function showSummary() {
  const summary = [
    byId("language").value ? byId("language").selectedOptions[0].textContent : "Detect language",
    isTranslation() ? "translate into English" : "",
    byId("beam-size").value ? `beam size ${byId("beam-size").value}` : "",
    byId("words").checked ? "" : "no word timestamps",
    byId("vad").checked ? "skip silence" : "",
  ];
  setText("options-summary", summary.filter(Boolean).join(" · "));
}
