// The API reference: renders openapi.json as tables.

import { byId, element, showError } from "../lib/dom.js";
import { requestJson } from "../lib/http.js";
import { initAccessForm } from "./access-form.js";

/** Describe a JSON schema in a few words. */
function typeName(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(typeName).join(", or ");
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum.length > 20 ? `one of ${schema.enum.length} values` : schema.enum.join(", ");
  if (schema.format === "binary") return "a file";
  if (schema.type === "array") return `a list of ${typeName(schema.items)}`;
  if (schema.contentSchema) return `JSON with ${Object.keys(schema.contentSchema.properties).join(", ")}`;
  if (schema.minimum !== undefined) return `${schema.type} from ${schema.minimum} to ${schema.maximum}`;
  if (schema.properties) return `{${Object.keys(schema.properties).join(", ")}}`;
  return [schema.type].flat().join(" or ") + (schema.maxLength ? `, up to ${schema.maxLength} characters` : "");
}

function table(caption, headers, rows) {
  const row = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, {}, cell)));
  const head = element("thead", {}, row("th", headers));
  const body = element("tbody", {}, ...rows.map((cells) => row("td", cells)));
  return element("div", { class: "scroll" }, element("table", {}, element("caption", {}, caption), head, body));
}

function fieldRows({ properties = {}, required = [] }) {
  return Object.entries(properties).map(([name, schema]) => [
    element("code", {}, name),
    typeName(schema) + (required.includes(name) ? " (required)" : ""),
    schema.description ?? "",
  ]);
}

function responseRows(responses) {
  return Object.entries(responses).map(([status, { description, content = {} }]) => [
    element("code", {}, status),
    description,
    Object.entries(content).map(([type, { schema }]) => `${type}: ${typeName(schema)}`).join("; "),
  ]);
}

function operationSection(method, path, { summary, requestBody, responses }) {
  const heading = element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`));
  const bodies = Object.entries(requestBody?.content ?? {}).map(([type, { schema }]) =>
    table(type, ["field", "type", "description"], fieldRows(schema)));
  return element("section", {}, heading, element("p", {}, summary), ...bodies,
    table("Responses", ["status", "description", "content"], responseRows(responses)));
}

function show({ paths, components }) {
  const sections = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => operationSection(method, path, operation)));
  const schemas = Object.entries(components.schemas).map(([name, schema]) =>
    element("section", {}, element("h2", {}, name), table("", ["field", "type", "description"], fieldRows(schema))));
  byId("operations").replaceChildren(...sections, ...schemas);
}

async function load() {
  try {
    show(await requestJson("openapi.json"));
  } catch (error) {
    if (error.status !== 401) showError("access-error", error.message);
  }
}

initAccessForm(false);
document.addEventListener("key-saved", load);
load();
