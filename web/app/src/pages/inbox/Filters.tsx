import { useQuery } from "@tanstack/react-query";
import { type Ref, useId, useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { SelectField, TextField } from "../../parts/Field.tsx";
import { FilterIcon } from "../../parts/icons.tsx";
import { Segmented } from "../../parts/Segmented.tsx";
import styles from "./InboxPage.module.css";
import { filtersIn, OUTCOMES, RISKS, SORTS, VIEWS, type Wanted } from "./list.ts";

const words = messages.inbox;

/** The names of agents and of their tools, to choose from. */
function useNames(): { agents: string[]; tools: string[] } {
  const { data } = useQuery({ queryKey: ["agents"], queryFn: () => assent.agents.list() });
  const agents = data ?? [];
  const tools = agents.flatMap((agent) => (agent.tools ?? []).map(({ name }) => name));
  return { agents: agents.map(({ agent }) => agent), tools: [...new Set(tools)].sort() };
}

function optionsOf(names: readonly string[], chosen: string) {
  const all = chosen === "" || names.includes(chosen) ? names : [chosen, ...names];
  return [{ value: "", label: words.any }, ...all.map((name) => ({ value: name, label: name }))];
}

export interface FiltersProps {
  wanted: Wanted;
  onChange: (change: Partial<Wanted>) => void;
  searchRef: Ref<HTMLInputElement>;
}

/** Which approvals are listed, and in which order; all of it stands in the address. */
export function Filters({ wanted, onChange, searchRef }: FiltersProps) {
  const set = filtersIn(wanted);
  const [open, setOpen] = useState(set > 0);
  const panel = useId();
  const { agents, tools } = useNames();
  const isDecided = wanted.view === "decided";
  const outcomes: Record<string, string> = messages.status.approvals;
  const risks: Record<string, string> = messages.status.risks;
  return (
    <div className={styles.filters}>
      <Segmented
        label={words.view}
        value={wanted.view}
        options={VIEWS.map((view) => ({ value: view, label: words.views[view] }))}
        onChange={(view) => onChange({ view, id: "", status: "" })}
      />
      <div className={styles.find}>
        <TextField
          ref={searchRef}
          type="search"
          label={words.search}
          hideLabel
          placeholder={words.searchHint}
          value={wanted.q}
          onChange={({ target }) => onChange({ q: target.value })}
        />
        <Button aria-expanded={open} aria-controls={panel} onClick={() => setOpen(!open)}>
          <FilterIcon />
          {set === 0 ? words.filters : words.filtersOn(set)}
        </Button>
      </div>
      {open && (
        <div id={panel} className={styles.selects}>
          <SelectField
            label={words.agent}
            value={wanted.agent}
            options={optionsOf(agents, wanted.agent)}
            onChange={({ target }) => onChange({ agent: target.value })}
          />
          <SelectField
            label={words.tool}
            value={wanted.tool}
            options={optionsOf(tools, wanted.tool)}
            onChange={({ target }) => onChange({ tool: target.value })}
          />
          <SelectField
            label={words.risk}
            value={wanted.risk}
            options={[
              { value: "", label: words.any },
              ...RISKS.map((risk) => ({ value: risk, label: risks[risk] ?? risk })),
            ]}
            onChange={({ target }) => onChange({ risk: RISKS.find((risk) => risk === target.value) ?? "" })}
          />
          {isDecided ? (
            <SelectField
              label={words.status}
              value={wanted.status}
              options={[
                { value: "", label: words.any },
                ...OUTCOMES.map((status) => ({ value: status, label: outcomes[status] ?? status })),
              ]}
              onChange={({ target }) => onChange({ status: OUTCOMES.find((each) => each === target.value) ?? "" })}
            />
          ) : (
            <SelectField
              label={words.sort}
              value={wanted.sort}
              options={SORTS.map((sort) => ({ value: sort, label: words.sorts[sort] }))}
              onChange={({ target }) => onChange({ sort: SORTS.find((sort) => sort === target.value) ?? "oldest" })}
            />
          )}
          {set > 0 && (
            <Button small look="quiet" onClick={() => onChange({ agent: "", tool: "", risk: "", status: "" })}>
              {words.clear}
            </Button>
          )}
        </div>
      )}
    </div>
  );
}
