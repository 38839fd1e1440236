// A table that takes only what changed. Rows are objects with an `id`; a column says how its cell is shown (`kind`).
const seconds = (ms) => Math.max(0, Math.round(ms / 1000));

function ago(ms) {
  const s = seconds(ms);
  if (s < 2) return "now";
  if (s < 120) return `${s} s ago`;
  const minutes = Math.floor(s / 60);
  if (minutes < 120) return `${minutes} min ago`;
  const hours = Math.floor(s / 3600);
  if (hours < 48) return `${hours} h ago`;
  return `${Math.floor(s / 86400)} days ago`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hour12: false });

export default {
  props: { columns: Array, rows: Array, caption: String, empty: String, now_ms: Number },
  emits: ["act"],
  template: `
    <table class="live">
      <caption class="unseen">{{ caption }}</caption>
      <thead>
        <tr><th v-for="c in columns" :key="c.name" scope="col" :class="'k-' + c.kind">{{ c.label }}</th></tr>
      </thead>
      <tbody>
        <tr v-if="!lines.length"><td class="empty" :colspan="columns.length">{{ empty }}</td></tr>
        <template v-for="row in lines" :key="row.id">
        <tr v-if="row.group" class="group"><th :colspan="columns.length" scope="rowgroup">{{ row.group }}</th></tr>
        <tr :data-row="row.id">
          <td v-for="c in columns" :key="c.name" :class="['k-' + c.kind, 'c-' + c.name]">
            <a v-if="c.kind === 'link' && row[c.name]" :href="row.href">{{ row[c.name] }}</a>
            <span v-else-if="c.kind === 'chip'" :class="['chip', 'is-' + row[c.name].replaceAll(' ', '-')]">{{ row[c.name] }}</span>
            <time v-else-if="c.kind === 'ago' && row[c.name]" :datetime="iso(row[c.name])" :title="full(row[c.name])">{{ since(row[c.name]) }}</time>
            <span v-else-if="c.kind === 'ago'" class="none">never</span>
            <time v-else-if="c.kind === 'clock' && row[c.name]" :datetime="iso(row[c.name])" :title="full(row[c.name])">{{ hands(row[c.name]) }}</time>
            <span v-else-if="c.kind === 'value'" :key="row[c.name]" :class="{ changed: settled }">{{ row[c.name] }}<i v-if="row.units">&nbsp;{{ row.units }}</i></span>
            <details v-else-if="c.kind === 'open'"><summary>{{ row[c.name] }}</summary><pre tabindex="0">{{ row.full }}</pre></details>
            <button v-else-if="c.kind === 'action' && row[c.name]" type="button" class="small" :aria-label="row[c.name] + ' ' + (row.about ?? '')" @click="$emit('act', row.id)">{{ row[c.name] }}</button>
            <template v-else>{{ row[c.name] }}</template>
          </td>
        </tr>
        </template>
      </tbody>
    </table>`,
  data() {
    return { lines: [...this.rows], now: this.now_ms, ahead: this.now_ms - Date.now(), settled: false };
  },
  mounted() {
    // Times are the server's: its clock and the browser's may differ.
    if (this.columns.some((c) => c.kind === "ago")) {
      this.ticking = setInterval(() => (this.now = Date.now() + this.ahead), 1000);
    }
  },
  unmounted() {
    clearInterval(this.ticking);
  },
  methods: {
    // `changed`: rows that are new or differ; `order`: identifiers of all rows, null where that is as before.
    apply(changed, order, now_ms) {
      this.ahead = now_ms - Date.now();
      this.now = now_ms;
      this.settled = true;
      const known = new Map(this.lines.map((row) => [row.id, row]));
      for (const row of changed) known.set(row.id, row);
      this.lines = (order ?? [...known.keys()]).map((id) => known.get(id)).filter(Boolean);
    },
    since(ms) {
      return ago(this.now - ms);
    },
    hands: (ms) => clock.format(ms),
    full: (ms) => day.format(ms),
    iso: (ms) => new Date(ms).toISOString(),
  },
};
