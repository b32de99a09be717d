{{- define "minist.name" -}}
{{- if contains "minist" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-minist" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "minist.selector" -}}
app.kubernetes.io/name: minist
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "minist.labels" -}}
{{ include "minist.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "minist.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* Of every pod: no rights, no token of the cluster, folders that go with it. */}}
{{- define "minist.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # a Service called minist would set MINIST_PORT
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .Values.runAsUser }}
  runAsUser: {{ . | int64 }}
  {{- end }}
  runAsGroup: 0
  seccompProfile:
    type: RuntimeDefault
volumes:
  - name: home
    emptyDir:
      sizeLimit: {{ .Values.homeSize }}
  - name: temporary
    emptyDir:
      sizeLimit: {{ .Values.temporarySize }}
{{- end }}

{{- define "minist.container" -}}
image: {{ include "minist.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
volumeMounts:
  - name: home
    mountPath: /data
  - name: temporary
    mountPath: /tmp
{{- end }}

{{- /* A variable of the Secret: called with its name, and with the name of a key. */}}
{{- define "minist.secret" -}}
- name: {{ .key }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end }}

{{- /* Of the API and of workers: called with the root, and with the settings of the part. */}}
{{- define "minist.environment" -}}
{{- $values := .root.Values }}
{{- range $key := list "MINIST_DATABASE_URL" "MINIST_API_KEY" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
{{ include "minist.secret" (dict "secret" $values.existingSecret "key" $key) }}
{{- end }}
{{- range $key := list "AWS_SESSION_TOKEN" "MINIST_WEBHOOK_SECRET" }}
{{ include "minist.secret" (dict "secret" $values.existingSecret "key" $key "optional" true) }}
{{- end }}
{{- if eq (merge (dict) .settings $values.settings).MINIST_EXECUTOR "ray" }}
{{ include "minist.secret" (dict "secret" $values.existingSecret "key" "RAY_AUTH_TOKEN") }}
- name: RAY_AUTH_MODE
  value: token
{{- end }}
{{- if and $values.ingress.enabled (ne $values.ingress.path "/") }}
- name: MINIST_ROOT_PATH
  value: {{ $values.ingress.path | quote }}
{{- end }}
{{- range $name, $value := merge (dict) .settings $values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
