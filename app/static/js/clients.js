// The enrolled clients, and in how many rounds each one's update was taken.
import { experimentPath, get } from "./api.js";
import { card, h, keyed } from "./dom.js";
import { count, when } from "./format.js";

const PAGE = 1000;

export function clientsSection(id) {
  const body = h("tbody");
  const note = h("p.muted");
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": "Clients" },
    h("table", {}, h("thead", {}, h("tr", {},
      ["Client", "Name", "Shard", "Rounds", "Enrolled"].map((name) => h("th", { scope: "col" }, name)))), body));
  const node = card("Clients", note, table);
  let clients = [];
  let asked = 0;

  const fetchMore = async (enrolled) => {
    if (enrolled <= asked) return;
    asked = enrolled; // slots are taken in no order, so a new one may lie between
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
      keyed(body, clients.map((c) => ({ ...c, rounds: rounds.get(c.id) ?? 0 })), (c) => c.id, row);
    };
    show();
    fetchMore(view.enrolled).then(show, (error) => {
      asked = 0; // with the next view again
      note.textContent = error.message;
    });
  };
  return { node, update };
}

const slotOf = (id) => Number(id.replace("client-", ""));

/** Client to the number of closed rounds that hold its update. */
function contributions(history) {
  const rounds = new Map();
  for (const { state, contributors } of history) {
    if (state !== "closed") continue;
    for (const id of contributors) rounds.set(id, (rounds.get(id) ?? 0) + 1);
  }
  return rounds;
}

function row(client) {
  return h("tr", {}, h("td", {}, client.id), h("td", {}, client.name || "–"), h("td", {}, count(client.shard_size)),
    h("td", {}, count(client.rounds)), h("td", {}, when(client.enrolled_at)));
}
