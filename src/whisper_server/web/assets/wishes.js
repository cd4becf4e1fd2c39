// The options of a request, remembered in this browser.

import { byId, say } from "./element.js";

const NAME = "whisper-server:options";
const FIELDS = ["language", "task", "beam-size", "prompt", "hotwords"];
const SWITCHES = ["words", "vad"];

export function restoreWishes() {
  const saved = JSON.parse(localStorage.getItem(NAME) ?? "{}");
  for (const id of FIELDS) if (typeof saved[id] === "string") byId(id).value = saved[id];
  for (const id of SWITCHES) if (typeof saved[id] === "boolean") byId(id).checked = saved[id];
  byId("options").addEventListener("change", () => {
    localStorage.setItem(NAME, JSON.stringify(wishes()));
    sayWishes();
  });
  sayWishes();
}

export const translates = () => byId("task").value === "translate";

/** The fields of a form for /v1/jobs and /v1/audio/transcriptions. */
export function wishedFields() {
  const { language, task, "beam-size": beams, prompt, hotwords, words, vad } = wishes();
  const fields = { language, task, beam_size: beams, prompt, hotwords, word_timestamps: words, vad_filter: vad };
  return Object.entries(fields).filter(([, value]) => value !== "");
}

function wishes() {
  const texts = FIELDS.map((id) => [id, byId(id).value.trim()]);
  return Object.fromEntries([...texts, ...SWITCHES.map((id) => [id, byId(id).checked])]);
}

function sayWishes() {
  const shown = (id) => byId(id).selectedOptions[0].textContent;
  const said = [
    byId("language").value ? shown("language") : "Detect the language",
    translates() ? "into English" : "",
    byId("beam-size").value ? `${byId("beam-size").value} beams` : "",
    byId("words").checked ? "" : "no words’ times",
    byId("vad").checked ? "without silence" : "",
  ];
  say("options-said", said.filter(Boolean).join(" · "));
}
