// ---- what is shown, kept in the address after the #, so that a view can be sent to somebody ----

function address() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { parts, query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const remembered = (name, otherwise = null) => address().query.get(name) ?? otherwise;

// Put values into the address without a new entry in the history; null takes one out.
function remember(changes) {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const found = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") found.delete(name);
    else found.set(name, value);
  }
  const rest = found.toString();
  history.replaceState(history.state, "", `#${path || "/"}${rest ? `?${rest}` : ""}`);
}

// What has to be stopped when another page is shown.
const leaving = [];
