// The view of one experiment, made of sections; each section takes the newest data.
import { agreementSection } from "./agreement.js";
import { auditSection } from "./audit.js";
import { chartsSection } from "./charts.js";
import { clientsSection } from "./clients.js";
import { configSection } from "./config.js";
import { costSection } from "./cost.js";
import { h } from "./dom.js";
import { headSection } from "./head.js";
import { joinSection } from "./join.js";
import { keyNow, NO_RIGHTS, onKeyChange, rightsIn } from "./key.js";
import { follow } from "./live.js";
import { modelsSection, modelsOf } from "./models.js";
import { predictSection } from "./predict.js";
import { privacySection } from "./privacy.js";
import { roundSection } from "./round.js";
import { tilesSection } from "./tiles.js";
import { t } from "./words.js";

export function experimentView(main, id) {
  const problem = h("p.fault", { role: "alert" });
  const head = headSection((changes) => show({ ...view, ...changes }));
  const tiles = tilesSection();
  const charts = chartsSection();
  const round = roundSection();
  const join = joinSection(id);
  const predict = predictSection(id);
  const models = modelsSection(id);
  const clients = clientsSection(id);
  const agreement = agreementSection(id);
  const cost = costSection();
  const privacy = privacySection();
  const config = configSection();
  const audit = auditSection(id);
  const sections = [head, tiles, charts, round, join, predict, models, clients, agreement, privacy, cost, config, audit];
  main.append(h("a", { href: "#/" }, t("← All experiments")), problem, h("p.muted", {}, t("Loading …")));

  const catalogue = modelsOf(id);
  let view = null;
  let rights = NO_RIGHTS;
  const showAll = () => {
    if (!view) return;
    for (const section of sections) section.update({ ...view, rights }, catalogue.models);
  };
  const show = (news) => {
    problem.textContent = "";
    document.title = `${news.name} · ${t("Federated learning")}`;
    if (!view) {
      main.lastChild.replaceWith(head.node, tiles.node, charts.node,
        h("div.pair", {}, round.node, join.node), predict.node, models.node, clients.node, agreement.node, privacy.node, cost.node, config.node, audit.node);
    }
    view = news;
    showAll();
    catalogue.refresh(news).then((changed) => changed && showAll(), fail);
  };
  const fail = (error) => {
    problem.textContent = error.message;
    if (error.status === 404 && !view) main.lastChild.textContent = "";
  };
  const stop = follow(id, show, fail);
  const learnRights = async () => {
    rights = NO_RIGHTS; // those of the person before end now
    showAll();
    const who = keyNow();
    try {
      const found = await rightsIn(id);
      if (who !== keyNow()) return;
      rights = found;
      showAll();
    } catch (error) {
      fail(error);
    }
  };
  const unlisten = onKeyChange(learnRights);
  learnRights();
  return () => {
    stop();
    unlisten();
    round.end();
  };
}
