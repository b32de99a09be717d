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
  max_dataset_bytes: number;
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
  training: { recipe: string; epochs: number } | null;
  dataset: DatasetFacts | null;
  metrics: { test?: Metrics };
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
  saliency: string | null;
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
  decision: { reason: string } | null;
  feedback: FeedbackChange | null;
}

export interface JobPage {
  jobs: JobBody[];
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
  image: string;
  used_by: string | null;
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
  image: string;
  probability: number;
}

export interface SideBody {
  model: string;
  version: number;
  accuracy: number;
}

export interface DifferenceBody {
  index: number;
  image: string;
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

export interface DatasetLine {
  name: string;
  version: number | null;
  reference: string;
  status: "importing" | "ready" | "failed";
  error: string | null;
  built_in: boolean;
  created_at: string | null;
  bytes: number;
  summary: SummaryBody | null;
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

export interface Profile {
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

export interface DatasetBody extends DatasetLine {
  digest: string | null;
  corrections_of: string | null;
  job: string | null;
  versions: DatasetLine[];
  profile: Profile | null;
}

export interface SampleBody {
  row: number;
  label: string;
  split: "train" | "validation" | "test";
  image: string;
  original: string | null;
}
