// What the API sends, as far as the page reads it. tests/test_page_types.py holds it to the service's schemas.

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  hint: string;
  errors?: { field: string; problem: string }[];
}

export interface Info {
  version: string;
  torch: string;
  device: string;
  open_predict: boolean;
  max_dataset_bytes: number;
  max_weights_bytes: number;
}

export interface DegradedBody {
  name: string;
  version: number;
  serving: number | null;
  reason: string;
}

export interface Readiness {
  degraded: DegradedBody[];
}

export interface ModelSummary {
  name: string;
  version: number;
  default: boolean;
  architecture: string;
  dataset: string | null;
  accuracy: number | null;
  classes: string[];
  input: "picture" | "table";
}

export interface Column {
  name: string;
  role: "numeric" | "categorical" | "boolean" | "date";
  categories: string[];
  date_format: string | null;
  minimum: number | null;
  maximum: number | null;
  example: string | number | boolean | null;
}

export interface TableInput {
  kind: "table";
  columns: Column[];
}

export interface Scores {
  ece: number;
}

export interface Metrics {
  images: number;
  accuracy: number;
  uncalibrated: Scores | null;
  calibrated: Scores | null;
}

export interface DatasetFacts {
  name: string;
}

export interface Card {
  name: string;
  architecture: string;
  classes: string[];
  parameters: number;
  input: TableInput | { kind?: undefined };
  training: { recipe: string; epochs: number } | null;
  dataset: DatasetFacts | null;
  metrics: { test?: Metrics };
  notes: string[];
}

export interface VersionBody {
  version: number;
  aliases: string[];
  created_at: string;
  job: string | null;
  accuracy: number | null;
}

export interface AuditBody {
  at: string;
  who: string;
  action: string;
  alias: string | null;
  from_version: number | null;
  to_version: number | null;
  why: string;
}

export interface PredictionBody {
  id: string | null;
  model: string;
  version: number;
  label: string;
  probability: number;
  probabilities: Record<string, number>;
  seen: string | null;
  overlay: string | null;
  contributions: Record<string, number> | null;
  novelty?: number;
  warning?: { type: string; count?: number; detail: string };
}

export interface DigitBody {
  id?: string;
  label: string;
  probability: number;
  box: [x: number, y: number, width: number, height: number];
  line: number;
}

export interface NumberBody {
  number: string;
  lines: string[];
  probability: number;
  digits: DigitBody[];
  input: { size: [width: number, height: number] };
}

export interface FieldBody {
  name: string;
  type: "integer" | "number" | "string";
  default: number | string;
  minimum: number | null;
  maximum: number | null;
  exclusive: ("minimum" | "maximum")[];
  choices: string[] | null;
  description: string | null;
}

export interface RecipeBody {
  name: string;
  summary: string;
  reference: string;
  trainable: boolean;
  fields: FieldBody[];
}

export interface FeedbackChange {
  used: number | null;
  right_before: number | null;
  right_after: number | null;
}

export interface JobBody {
  id: string;
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  model: string;
  recipe: string;
  position: number | null;
  epoch: number;
  epochs: number | null;
  eta_seconds: number | null;
  best: { accuracy: number } | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  error: string | null;
  warning: string | null;
  version: number | null;
  decision: { reason: string; accuracy: number | null } | null;
  config: Record<string, unknown>;
  promote: string;
  feedback: FeedbackChange | null;
  name: string | null;
  notes: string | null;
  tags: string[];
}

/** What became of a weights file. */
export interface UploadBody {
  job: JobBody;
}

export interface JobPage {
  jobs: JobBody[];
  next: string | null;
}

/** The data of a server-sent event `step`: training.events. */
export interface Step {
  epoch: number;
  epochs: number;
  step: number;
  steps: number;
  loss: number;
  accuracy: number;
  images_per_second: number;
  eta_seconds: number;
  trial?: number;
  trials?: number;
}

/** The data of a server-sent event `epoch`. */
export interface Epoch {
  epoch: number;
  epochs: number;
  train_loss: number;
  train_accuracy: number;
  split: string;
  loss: number;
  accuracy: number;
  seconds: number;
  trial?: number;
  trials?: number;
}

export interface ArtifactBody {
  name: string;
  bytes: number;
}

export interface Limit {
  count: number;
  bytes: number;
}

export interface CorrectionBody {
  id: string;
  model: string;
  version: number;
  label: string;
  predicted: string;
  created: string;
  image: string | null;
  row: Record<string, unknown> | null;
  used_by: string | null;
}

export interface UnsureBody {
  id: string;
  model: string;
  version: number;
  predicted: string;
  probability: number;
  unfamiliar: boolean;
  image: string;
}

export interface LayerBody {
  name: string;
  type: string;
  output: number[] | null;
  parameters: number;
}

export interface FeedbackBody {
  enabled: boolean;
  count: number;
  bytes: number;
  limit: Limit;
  waiting: Record<string, number>;
  items: CorrectionBody[];
}

export interface ConfusionBody {
  dataset: string;
  images: number;
  accuracy: number;
  classes: string[];
  matrix: number[][];
}

export interface MistakeBody {
  index: number;
  true: string;
  predicted: string;
  image: string | null;
  row: Record<string, unknown> | null;
  probability: number;
}

export interface SideBody {
  model: string;
  version: number;
  accuracy: number;
}

export interface DifferenceBody {
  index: number;
  image: string | null;
  row: Record<string, unknown> | null;
  true: string;
  a: string;
  b: string;
  probability_a: number;
  probability_b: number;
}

export interface ComparisonBody {
  images: number;
  a: SideBody;
  b: SideBody;
  agreement: number;
  only_a: number;
  only_b: number;
  p: number;
  differ: DifferenceBody[];
}

export interface SummaryBody {
  images: number;
  classes: number;
  shape: [channels: number, height: number, width: number];
  bad_files: number;
  warnings: number;
}

export interface TableSummaryBody {
  rows: number;
  columns: number;
  target: string | null;
  classes: number | null;
  bad_rows: number;
  warnings: number;
}

export interface DatasetLine {
  name: string;
  version: number | null;
  reference: string;
  status: "importing" | "needs_target" | "ready" | "failed";
  kind: "images" | "table";
  error: string | null;
  built_in: boolean;
  created_at: string | null;
  bytes: number;
  summary: SummaryBody | TableSummaryBody | null;
}

export interface Options {
  size: number | null;
  resize: "auto" | "stretch" | "pad";
  test_share: number;
  validation_share: number;
  seed: number;
  drop: string[];
  rename: Record<string, string>;
  group_pattern: string | null;
}

export interface Listed {
  count: number;
  paths: string[];
}

export interface BadFile {
  path: string;
  reason: string;
}

export interface Warned {
  what: string;
  hint: string;
}

export interface ImageProfile {
  kind: "images";
  options: Options;
  images: number;
  channels: number;
  height: number;
  width: number;
  resize: "stretch" | "pad";
  classes: string[];
  counts: Record<string, Record<string, number>>;
  given_splits: string[];
  sizes: Record<string, number>;
  ignored: Record<string, Listed>;
  bad_files: BadFile[];
  bad_count: number;
  duplicates: number;
  near_duplicates: number;
  conflicts: string[][];
  conflict_count: number;
  warnings: Warned[];
}

export interface TableOptions {
  target: string | null;
  roles: Record<string, string>;
  group: string | null;
  time: string | null;
  numeric_target: "ask" | "classes";
  merge_similar: boolean;
  separator: string | null;
  header: boolean | null;
  quoting: boolean;
  encoding: string | null;
  test_share: number;
  validation_share: number;
  seed: number;
  drop: string[];
  rename: Record<string, string>;
}

export interface TableFormat {
  name: string;
  format: "csv" | "parquet";
  encoding: string | null;
  separator: string | null;
  header: boolean;
  rows: number;
}

export interface BadRow {
  file: string;
  line: number;
  reason: string;
}

export interface Histogram {
  bins: string[];
  counts: Record<string, number[]>;
  others: number[] | null;
}

export interface ColumnFacts {
  name: string;
  role: "numeric" | "categorical" | "boolean" | "date" | "text" | "id" | "constant" | "duplicate" | "target";
  used: boolean;
  why: string | null;
  missing: number;
  distinct: number;
  examples: string[];
  association: number | null;
  histogram: Histogram | null;
}

export interface Proposal {
  column: string;
  why: string;
}

export interface TableDraft {
  kind: "table-draft";
  options: TableOptions;
  files: TableFormat[];
  rows: number;
  columns: ColumnFacts[];
  bad_rows: BadRow[];
  bad_count: number;
  warnings: Warned[];
  proposals: Proposal[];
  preview: string[][];
}

export interface TableProfile {
  kind: "table";
  options: TableOptions;
  files: TableFormat[];
  rows: number;
  columns: ColumnFacts[];
  bad_rows: BadRow[];
  bad_count: number;
  warnings: Warned[];
  classes: string[];
  counts: Record<string, Record<string, number>>;
  given_splits: string[];
  duplicates: number;
}

export interface RowSampleBody {
  row: number;
  label: string;
  split: "train" | "validation" | "test";
  values: Record<string, string>;
}

export interface DatasetBody extends DatasetLine {
  digest: string | null;
  corrections_of: string | null;
  job: string | null;
  versions: DatasetLine[];
  profile: ImageProfile | TableProfile | TableDraft | null;
}

export interface SampleBody {
  row: number;
  label: string;
  split: "train" | "validation" | "test";
  image: string;
  original: string | null;
}

export interface BatchBody {
  most: string;
  count: number;
}

export interface ProblemCount {
  status: number;
  title: string;
  count: number;
  recent: number;
}

export interface IndexBody {
  psi: number;
  limit: number;
}

export interface DriftBody {
  images: number;
  hours: number;
  labels: IndexBody;
  confidence: IndexBody;
  against: "test" | "first";
  since: string | null;
}

export interface HourBody {
  at: string;
  images: number;
  warned_share: number;
  psi_labels: IndexBody | null;
  psi_confidence: IndexBody | null;
}

export interface HistoryBody {
  hours: HourBody[];
}

export interface MixBody {
  model: string;
  version: number;
  serving: boolean;
  answers: number;
  recent: number;
  labels: Record<string, number>;
  expected_labels: Record<string, number> | null;
  confidence: number[];
  expected_confidence: number[] | null;
  warned: number;
  failed: number;
  drift: DriftBody | null;
}

export interface RequestBody {
  at: string;
  id: string;
  method: string;
  route: string;
  status: number;
  ms: number;
  model: string | null;
  version: number | null;
  label: string | null;
  probability: number | null;
}

export interface LiveJob {
  id: string;
  kind: "train" | "import" | "weights";
  status: string;
  model: string;
  epoch: number;
  epochs: number | null;
}

export interface WorkerBody {
  pid: number;
  cpu: number | null;
  memory_bytes: number | null;
}

export interface TrainerBody {
  host: string;
  name: string;
}

export interface DiskBody {
  total: number;
  free: number;
}

export interface DatabaseBody {
  kind: "SQLite" | "Postgres";
  ms: number | null;
  bytes: number | null;
}

export interface TaskBody {
  name: string;
  error: string | null;
}

export interface ShadowBody {
  alias: string;
  compared: number;
  agreement: number | null;
  confidence: number | null;
  candidate_confidence: number | null;
  ms: number | null;
  candidate_ms: number | null;
  failed: number;
  dropped: number;
}

export interface TrafficBody {
  model: string;
  shares: Record<string, number>;
  answers: Record<string, number>;
  failed: Record<string, number>;
  shadow: ShadowBody | null;
  who: string;
  since: string;
  ended_at: string | null;
  why: string;
}

export interface CorrectionsBody {
  count: number;
  only_production: number;
  only_candidate: number;
  p: number;
}

export interface TrafficDetail extends TrafficBody {
  corrections: CorrectionsBody | null;
}

/** The data of a server-sent event `live`. */
export interface MomentBody {
  host: string;
  requests_per_second: number;
  images_per_second: number;
  p50_ms: number | null;
  p99_ms: number | null;
  wait_p99_ms: number | null;
  waiting_images: number;
  waiting_bytes: number;
  batches: BatchBody[];
  problems: ProblemCount[];
  refused: Record<string, number>;
  models: MixBody[];
  requests: RequestBody[];
  traffic: TrafficBody[];
  jobs: LiveJob[];
  job_counts: Record<string, number>;
  workers: WorkerBody[];
  trainers: TrainerBody[];
  disk: DiskBody;
  database: DatabaseBody;
  tasks: TaskBody[];
}
