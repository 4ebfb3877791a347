// The enrolled clients, each with the number of rounds that took its update.
import { experimentPath, get, post } from "./api.js";
import { confirm } from "./confirm.js";
import { card, h, keyed, say } from "./dom.js";
import { count, when } from "./format.js";
import { adminKey } from "./key.js";

const PAGE = 1000;

export function clientsSection(id) {
  const body = h("tbody");
  const note = h("p.muted");
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": "Clients" },
    h("table", {}, h("thead", {}, h("tr", {},
      ["Client", "Name", "Examples", "Rounds", "Enrolled", ""].map((name) =>
        h("th", { scope: "col" }, name || h("span.sr", {}, "Actions"))))), body));
  const node = card("Clients", note, table);
  let clients = [];
  let seen = "0 0"; // no client enrolled, none revoked

  const fetchAll = async (now) => {
    if (now === seen) return;
    seen = now; // a new client may come between the others, because slots have no order in time
    const found = [];
    let page;
    do {
      const after = found.length ? `&after=${slotOf(found.at(-1).id)}` : "";
      page = await get(`${experimentPath(id)}/clients?limit=${PAGE}${after}`);
      found.push(...page);
    } while (page.length === PAGE);
    clients = found;
  };
  const update = (view) => {
    const rounds = contributions(view.history);
    const show = () => {
      note.textContent = clients.length ? "" : "Nobody has enrolled yet.";
      table.classList.toggle("hidden", !clients.length);
      const revocable = Boolean(adminKey()) && !view.ended_at;
      const rows = clients.map((c) => ({ ...c, rounds: rounds.get(c.id) ?? 0, revocable }));
      keyed(body, rows, (c) => c.id, (client) => row(client, revoke));
    };
    const revoke = (client) => confirmRevoke(id, client, () => fetchAll("again").then(show));
    show();
    fetchAll(`${view.enrolled} ${view.current_round?.revoked.length ?? 0}`).then(show, (error) => {
      seen = ""; // try again with the next view
      note.textContent = error.message;
    });
  };
  return { node, update };
}

const slotOf = (id) => Number(id.replace("client-", ""));

/** Maps each client to the number of closed rounds with its update. */
function contributions(history) {
  const rounds = new Map();
  for (const { state, contributors } of history) {
    if (state !== "closed") continue;
    for (const id of contributors) rounds.set(id, (rounds.get(id) ?? 0) + 1);
  }
  return rounds;
}

function row(client, revoke) {
  const button = h("button.tiny.danger",
    { type: "button", "aria-label": `Revoke ${client.id}`, onclick: () => revoke(client) }, "Revoke …");
  const end = client.revoked_at ? h("span.muted", {}, "revoked") : client.revocable && button;
  return h("tr", {}, h("td", {}, client.id), h("td", {}, client.name || "–"), h("td", {}, count(client.shard_size)),
    h("td", {}, count(client.rounds)), h("td", {}, when(client.enrolled_at)), h("td.right", {}, end));
}

function confirmRevoke(id, { id: client, name }, done) {
  const question = {
    title: `Revoke ${client}${name && ` (${name})`}?`,
    text: "Its token stops working and no cohort includes it any more. That cannot be undone.",
    yes: "Revoke it",
    no: "Keep it",
  };
  confirm(question, async () => {
    await post(`${experimentPath(id)}/clients/${encodeURIComponent(client)}/revoke`);
    say(`${client} is revoked.`);
    await done();
  });
}
