// Elements of the page: found by id, or made.

export const byId = (id) => document.getElementById(id);

/** Children may be texts. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Set a text only when it differs, as screen readers may read it out each time. */
export function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

/** The first letter of the server's sentences is small. */
export function complain(id, text) {
  say(id, text && text[0].toUpperCase() + text.slice(1));
}
