// Finds and creates elements.

export const byId = (id) => document.getElementById(id);

/** Create an element; children may be strings. */
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

/** Leaves equal text alone, because screen readers may announce each change. */
export function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

/** The server's messages start with a lower-case letter. */
export function showError(id, message) {
  setText(id, message && message[0].toUpperCase() + message.slice(1));
}
