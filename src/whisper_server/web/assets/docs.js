// The reference page: asks for openapi.json and shows its operations as tables.
"use strict";

const byId = (id) => document.getElementById(id);

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

/** What a JSON schema takes, in a few words. */
function taken(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(taken).join(", or ");
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum.length > 20 ? `one of ${schema.enum.length} words` : schema.enum.join(", ");
  if (schema.format === "binary") return "a file";
  if (schema.type === "array") return `a list of ${taken(schema.items)}`;
  if (schema.contentSchema) return `JSON with ${Object.keys(schema.contentSchema.properties).join(", ")}`;
  if (schema.minimum !== undefined) return `${schema.type} from ${schema.minimum} to ${schema.maximum}`;
  if (schema.properties) return `{${Object.keys(schema.properties).join(", ")}}`;
  return [schema.type].flat().join(" or ") + (schema.maxLength ? ` of up to ${schema.maxLength} characters` : "");
}

function table(caption, heads, rows) {
  const cells = (tag, row) => element("tr", ...row.map((cell) => element(tag, cell)));
  const body = element("tbody", ...rows.map((row) => cells("td", row)));
  const made = element("table", element("caption", caption), element("thead", cells("th", heads)), body);
  const scroll = element("div", made);
  scroll.className = "scroll";
  return scroll;
}

function fieldRows({ properties = {}, required = [] }) {
  return Object.entries(properties).map(([name, schema]) => [
    element("code", name),
    taken(schema) + (required.includes(name) ? " (required)" : ""),
    schema.description ?? "",
  ]);
}

function answerRows(responses) {
  return Object.entries(responses).map(([status, { description, content = {} }]) => [
    element("code", status),
    description,
    Object.entries(content).map(([type, { schema }]) => `${type}: ${taken(schema)}`).join("; "),
  ]);
}

function section(method, path, { summary, requestBody, responses }) {
  const heading = element("h2", element("code", `${method.toUpperCase()} ${path}`));
  const bodies = Object.entries(requestBody?.content ?? {}).map(([type, { schema }]) =>
    table(type, ["field", "takes", "meaning"], fieldRows(schema)));
  return element("section", heading, element("p", summary), ...bodies,
    table("Answers", ["status", "meaning", "content"], answerRows(responses)));
}

function show({ paths, components }) {
  const sections = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => section(method, path, operation)));
  const schemas = Object.entries(components.schemas).map(([name, schema]) =>
    element("section", element("h2", name), table("", ["member", "is", ""], fieldRows(schema))));
  byId("operations").replaceChildren(...sections, ...schemas);
}

async function load(key) {
  byId("error").textContent = "";
  try {
    const response = await fetch("openapi.json", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
    byId("access").hidden = response.status !== 401;
    if (response.ok) return show(await response.json());
    if (key || response.status !== 401) byId("error").textContent = (await response.json()).error;
  } catch (error) {
    byId("error").textContent = error.message;
  }
}

byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  load(byId("key").value);
});
load("");
