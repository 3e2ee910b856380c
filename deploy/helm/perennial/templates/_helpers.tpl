{{/* Name of the chart's objects. */}}
{{- define "perennial.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 31 | trimSuffix "-" }}
{{- end }}

{{/* Name of a release's objects. With a shard's, and what Kubernetes adds for a label, it has 63 characters at most. */}}
{{- define "perennial.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 31 | trimSuffix "-" }}
{{- else if contains (include "perennial.name" .) .Release.Name }}
{{- .Release.Name | trunc 31 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "perennial.name" .) | trunc 31 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The pipelines, as JSON: the shards, or one without a name. */}}
{{- define "perennial.shards" -}}
{{- default (list (dict "name" "")) .Values.shards | toJson }}
{{- end }}

{{/* Name of a pipeline's objects; takes the root and the shard. */}}
{{- define "perennial.shardname" -}}
{{- include "perennial.fullname" .root }}{{ with .shard.name }}-{{ . }}{{ end }}
{{- end }}

{{/* A pipeline's config: that of all, with what is in the shard's; takes the root and the shard. */}}
{{- define "perennial.config" -}}
{{- $config := deepCopy .root.Values.config }}
{{- if .shard.name }}
{{- $_ := set $config "name" .shard.name }}
{{- end }}
{{- if hasKey .shard "partitions" }}
{{- $_ := set $config "kafka" (merge (dict "partitions" (.shard.partitions | toString)) (default dict $config.kafka)) }}
{{- end }}
{{- if not $config.name }}
{{- $_ := set $config "name" (include "perennial.fullname" .root) }}
{{- end }}
{{- mergeOverwrite $config (default dict .shard.config) | toYaml }}
{{- end }}

{{- define "perennial.selectorLabels" -}}
app.kubernetes.io/name: {{ include "perennial.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .shard.name }}
perennial/shard: {{ . }}
{{- end }}
{{- end }}

{{- define "perennial.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{ include "perennial.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "perennial.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "perennial.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "perennial.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}
