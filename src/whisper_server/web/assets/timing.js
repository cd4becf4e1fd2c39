// Which characters of a segment are spoken when. A timed word is {start, end, probability, at, length}.

/** Give each word its place in the text; those that are not found there are left out. */
export function placed(words, text) {
  const found = [];
  let from = 0;
  for (const { word, start, end, probability = null } of words) {
    const spoken = word.trim();
    const at = spoken ? text.indexOf(spoken, from) : -1;
    if (at < 0) continue;
    found.push({ start, end, probability, at, length: spoken.length });
    from = at + spoken.length;
  }
  return found;
}

/** Take each segment's words out of those of the whole file. */
export function dealt(words, texts) {
  let next = 0;
  return texts.map((text) => {
    const own = [];
    let from = 0;
    for (; next < words.length; next += 1) {
      const spoken = words[next].word.trim();
      const at = text.indexOf(spoken, from);
      // A word's text may differ from the segment's only in spaces, so one that is not here is the next segment's.
      if (spoken && (at < 0 || text.slice(from, at).trim())) break;
      own.push(words[next]);
      if (spoken) from = at + spoken.length;
    }
    return placed(own, text);
  });
}

/** Return the words of an edited text: what is as it was keeps its times, the rest shares the time in between. */
export function retimed(words, before, after, { start, end }) {
  const limit = Math.min(before.length, after.length);
  let head = 0;
  while (head < limit && before[head] === after[head]) head += 1;
  let tail = 0;
  while (tail < limit - head && before.at(-1 - tail) === after.at(-1 - tail)) tail += 1;
  const shift = after.length - before.length;
  const first = words.filter(({ at, length }) => at + length <= head && !goesOn(after, at + length));
  const last = words
    .filter((word) => word.at >= before.length - tail && !first.includes(word) && !goesOn(after, word.at + shift))
    .map((word) => ({ ...word, at: word.at + shift }));
  const from = first.at(-1);
  const to = last[0];
  const middle = shared(after, from ? from.at + from.length : 0, to ? to.at : after.length, from?.end ?? start, to?.start ?? end);
  return [...first, ...middle, ...last];
}

/** Whether there is a letter on both sides, so that no word ends or begins here. */
function goesOn(text, at) {
  return /^[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}\p{Script=Arabic}\p{Script=Hebrew}\p{N}]{2}$/u.test(text.slice(at - 1, at + 1));
}

function shared(text, from, to, start, end) {
  const pieces = [...text.slice(from, to).matchAll(/\S+/g)];
  const whole = pieces.reduce((sum, [piece]) => sum + piece.length, 0);
  let done = 0;
  return pieces.map((piece) => {
    const share = [done, (done += piece[0].length)].map((part) => start + ((end - start) * part) / whole);
    return { start: share[0], end: share[1], probability: null, at: from + piece.index, length: piece[0].length };
  });
}

/** The index of the last item that starts at or before that time, or -1. */
export function lastBefore(items, time) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].start <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
