// Formats numbers as text.

const pad = (number, digits) => String(number).padStart(digits, "0");

/** Seconds as m:ss, or as h:mm:ss from one hour. */
export function clock(seconds) {
  const total = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes, remainder] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, pad(total % 60, 2)];
  return hours ? `${hours}:${pad(minutes, 2)}:${remainder}` : `${minutes}:${remainder}`;
}

/** Seconds as in subtitle files. Like openai-whisper, VTT omits the hours when they are zero. */
export function timestamp(seconds, decimalMark, alwaysHours) {
  const total = Math.round(seconds * 1000);
  const hours = Math.floor(total / 3_600_000);
  const minutes = pad(Math.floor(total / 60_000) % 60, 2);
  const time = `${minutes}:${pad(Math.floor(total / 1000) % 60, 2)}${decimalMark}${pad(total % 1000, 3)}`;
  return hours || alwaysHours ? `${pad(hours, 2)}:${time}` : time;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

export function fileSize(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/** A Unix timestamp as a time of day if it is today, otherwise as a date. */
export function timeOrDate(seconds) {
  const date = new Date(seconds * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleDateString([], { day: "numeric", month: "short" });
}

export const percent = (fraction) => `${Math.floor(100 * fraction)} %`;
