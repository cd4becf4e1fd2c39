// Maps words to positions in the text. A timed word is {start, end, probability, at, length}: seconds and characters.

/** Locate each word in the text; words that do not occur there are left out. */
export function locateWords(words, text) {
  const located = [];
  let from = 0;
  for (const { word, start, end, probability = null } of words) {
    const trimmed = word.trim();
    const at = trimmed ? text.indexOf(trimmed, from) : -1;
    if (at < 0) continue;
    located.push({ start, end, probability, at, length: trimmed.length });
    from = at + trimmed.length;
  }
  return located;
}

/** Distribute the words of the whole file over the texts of its segments. */
export function wordsOfSegments(words, texts) {
  let next = 0;
  return texts.map((text) => {
    const segmentWords = [];
    let from = 0;
    for (; next < words.length; next += 1) {
      const trimmed = words[next].word.trim();
      const at = text.indexOf(trimmed, from);
      // Words and segments differ only in spaces, so a word that is not next in this text belongs to the next segment.
      if (trimmed && (at < 0 || text.slice(from, at).trim())) break;
      segmentWords.push(words[next]);
      if (trimmed) from = at + trimmed.length;
    }
    return locateWords(segmentWords, text);
  });
}

/** Return the words of an edited text: unchanged words keep their times, new ones share the time between them. */
export function retimeWords(words, before, after, { start, end }) {
  const limit = Math.min(before.length, after.length);
  let prefix = 0;
  while (prefix < limit && before[prefix] === after[prefix]) prefix += 1;
  let suffix = 0;
  while (suffix < limit - prefix && before.at(-1 - suffix) === after.at(-1 - suffix)) suffix += 1;
  const shift = after.length - before.length;
  const first = words.filter(({ at, length }) => at + length <= prefix && !isInsideWord(after, at + length));
  const last = words
    .filter((word) => word.at >= before.length - suffix && !first.includes(word) && !isInsideWord(after, word.at + shift))
    .map((word) => ({ ...word, at: word.at + shift }));
  const previous = first.at(-1);
  const next = last[0];
  const range = [previous ? previous.at + previous.length : 0, next ? next.at : after.length];
  return [...first, ...spreadWords(after, range, previous?.end ?? start, next?.start ?? end), ...last];
}

/** Whether there are letters or digits on both sides of this position, so that no word starts or ends there. */
function isInsideWord(text, at) {
  return /^[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}\p{Script=Arabic}\p{Script=Hebrew}\p{N}]{2}$/u.test(text.slice(at - 1, at + 1));
}

/** Give the words in this range of the text times in proportion to their lengths. */
function spreadWords(text, [from, to], start, end) {
  const words = [...text.slice(from, to).matchAll(/\S+/g)];
  const total = words.reduce((sum, [word]) => sum + word.length, 0);
  const timeAt = (characters) => start + ((end - start) * characters) / total;
  let done = 0;
  return words.map(({ 0: { length }, index }) => {
    const word = { start: timeAt(done), end: timeAt(done + length), probability: null, at: from + index, length };
    done += length;
    return word;
  });
}
