// Writes transcripts as files, in the same layout as the server's response_format.

import { timestamp } from "../lib/format.js";

export const FORMATS = {
  txt: { type: "text/plain", write: ({ segments }) => segments.map(({ text }) => `${text.trim()}\n`).join("") },
  srt: {
    type: "application/x-subrip",
    write: ({ segments }) => segments.map((segment, i) => `${i + 1}\n${cue(segment, ",", true)}`).join(""),
  },
  vtt: {
    type: "text/vtt",
    write: ({ segments }) => "WEBVTT\n\n" + segments.map((segment) => cue(segment, ".", false)).join(""),
  },
  tsv: {
    type: "text/tab-separated-values",
    write: ({ segments }) => "start\tend\ttext\n" + segments.map(row).join(""),
  },
  json: { type: "application/json", write: (transcript) => JSON.stringify(transcript.toJson(), null, 2) + "\n" },
};

function cue({ start, end, text }, decimalMark, alwaysHours) {
  const times = [start, end].map((seconds) => timestamp(seconds, decimalMark, alwaysHours));
  return `${times.join(" --> ")}\n${text.trim().replaceAll("-->", "->")}\n\n`;
}

function row({ start, end, text }) {
  return `${Math.round(start * 1000)}\t${Math.round(end * 1000)}\t${text.trim().replaceAll("\t", " ")}\n`;
}
