// The HTTP interface. Paths are relative, so that a proxy may put the page under any prefix.

const ROOT = "api/v1";

/** The server refused or was not there; `problems` are its sentences, `status` 0 without an answer. */
export class RequestError extends Error {
  constructor(message, status = 0, problems = []) {
    super(message);
    this.status = status;
    this.problems = problems;
  }
}

export function path(...pieces) {
  return [ROOT, ...pieces.map((piece) => encodeURIComponent(piece))].join("/");
}

export async function get(where, query = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") words.set(name, value);
  }
  const tail = words.size ? `?${words}` : "";
  return ask(`${where}${tail}`, { headers: { Accept: "application/json" } });
}

/** A deed. The header is what no form of another site can send. */
export async function send(method, where, body) {
  return ask(where, {
    method,
    headers: { "Content-Type": "application/json", "X-Slurm-Power-Confirm": "yes" },
    body: JSON.stringify(body),
  });
}

async function ask(where, options) {
  let answer;
  try {
    answer = await fetch(where, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new RequestError("the server does not answer");
  }
  let said = {};
  try {
    said = await answer.json();
  } catch {
    if (answer.ok) throw new RequestError("the server's answer cannot be read", answer.status);
  }
  if (!answer.ok) {
    const problems = Array.isArray(said.problems) ? said.problems.map(String) : [];
    throw new RequestError(String(said.error || `refused (${answer.status})`), answer.status, problems);
  }
  return said;
}
