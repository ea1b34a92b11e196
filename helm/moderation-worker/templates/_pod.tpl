{{/* What the worker's pods and those that run other commands of its image share: the container's surroundings. */}}

{{/* The fields of a pod's spec that do not depend on what it runs. */}}
{{- define "moderation-worker.podSurroundings" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . | quote }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
What a container needs. Memory that is not given follows from the worker's budget: that, what the process takes besides, and a
quarter to spare, in steps of 32 MiB; request and limit are the same.
*/}}
{{- define "moderation-worker.resources" -}}
{{- $needed := add .Values.settings.memory.budget_mib (include "moderation-worker.baseMib" .) -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- $memory := get $limits "memory" | default (printf "%dMi" (mul 32 (div (add (div (mul $needed 5) 4) 31) 32))) -}}
{{- $limits = merge (dict "memory" $memory) $limits -}}
{{- $requests := merge (dict) (.Values.resources.requests | default dict) (dict "memory" $memory) -}}
{{- toYaml (merge (dict "limits" $limits "requests" $requests) .Values.resources) -}}
{{- end -}}

{{/* MiB that the process takes besides the budget (BASE_MIB of the worker). */}}
{{- define "moderation-worker.baseMib" -}}140{{- end -}}

{{/* A quantity of memory in MiB, rounded down; empty where only the API server can say what it is. */}}
{{- define "moderation-worker.mebibytes" -}}
{{- $units := dict "" 0.00000095367431640625 "Ki" 0.0009765625 "Mi" 1.0 "Gi" 1024.0 "Ti" 1048576.0 "k" 0.00095367431640625 "M" 0.95367431640625 "G" 953.67431640625 "T" 953674.31640625 -}}
{{- $text := ternary (toString .) (int64 . | toString) (kindIs "string" .) -}}
{{- if regexMatch "^[0-9]+([.][0-9]+)?([KMGT]i|[kMGT])?$" $text -}}
{{- $unit := regexFind "[KMGTki]*$" $text -}}
{{- mulf (float64 (trimSuffix $unit $text)) (get $units $unit) | floor | int64 -}}
{{- end -}}
{{- end -}}

{{/* A quantity of processors in thousandths, rounded down; empty where only the API server can say what it is. */}}
{{- define "moderation-worker.millicores" -}}
{{- $text := toString . -}}
{{- if regexMatch "^[0-9]+([.][0-9]+)?m?$" $text -}}
{{- mulf (float64 (trimSuffix "m" $text)) (hasSuffix "m" $text | ternary 1 1000) | floor | int64 -}}
{{- end -}}
{{- end -}}

{{/* Image, security, environment and mounts: the same for every command. */}}
{{- define "moderation-worker.containerSurroundings" -}}
image: {{ include "moderation-worker.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: WORKER_CONFIG
    value: {{ include "moderation-worker.directory" . }}/config/worker.yaml
  # Static member and transactional id: the pod's name is stable, so a restart fences its own past and moves no partition.
  - name: WORKER_KAFKA__INSTANCE_ID
    value: $(POD_NAMESPACE).$(POD_NAME)
  {{- with .Values.kafka.sasl }}
  {{- if .mechanism }}
  # A name is no secret; KEDA reads it from here too.
  - name: WORKER_KAFKA__COMMON__SASL_PLAIN_USERNAME
    {{- if .username }}
    value: {{ .username | quote }}
    {{- else }}
    valueFrom:
      secretKeyRef:
        name: {{ .existingSecret | quote }}
        key: {{ .usernameKey | quote }}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: {{ include "moderation-worker.directory" . }}/config
    readOnly: true
  - name: secrets
    mountPath: {{ include "moderation-worker.secretsDirectory" . }}
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Called with (dict "root" $ "config" <name of the ConfigMap>). Whole folders are mounted, so a changed key arrives. */}}
{{- define "moderation-worker.volumes" -}}
{{- $root := .root -}}
- name: config
  configMap:
    name: {{ .config | quote }}
    defaultMode: 0444
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $name, $app := $root.Values.apps }}
      - secret:
          name: {{ $app.existingSecret.name | quote }}
          items:
            - key: {{ $app.existingSecret.key | quote }}
              path: apps/{{ $name }}/secret-key
      {{- end }}
      {{- with $root.Values.kafka.tls }}
      {{- if and .enabled .ca.existingSecret }}
      - secret:
          name: {{ .ca.existingSecret | quote }}
          items:
            - key: {{ .ca.key | quote }}
              path: kafka/ca.crt
      {{- end }}
      {{- if and .enabled .client.existingSecret }}
      - secret:
          name: {{ .client.existingSecret | quote }}
          items:
            - key: {{ .client.certKey | quote }}
              path: kafka/tls.crt
            - key: {{ .client.keyKey | quote }}
              path: kafka/tls.key
            {{- with .client.keyPasswordKey }}
            - key: {{ . | quote }}
              path: kafka/tls.key.password
            {{- end }}
      {{- end }}
      {{- end }}
      {{- with $root.Values.kafka.sasl }}
      {{- if .mechanism }}
      - secret:
          name: {{ .existingSecret | quote }}
          items:
            - key: {{ .passwordKey | quote }}
              path: kafka/sasl-password
      {{- end }}
      {{- end }}
      {{- with $root.Values.kafka.oauth }}
      {{- if .existingSecret }}
      - secret:
          name: {{ .existingSecret | quote }}
          items:
            - key: {{ .clientSecretKey | quote }}
              path: kafka/oauth-client-secret
      {{- end }}
      {{- if .ca.existingSecret }}
      - secret:
          name: {{ .ca.existingSecret | quote }}
          items:
            - key: {{ .ca.key | quote }}
              path: kafka/oauth-ca.crt
      {{- end }}
      {{- end }}
      {{- with $root.Values.http }}
      {{- if .proxyCredentials.existingSecret }}
      - secret:
          name: {{ .proxyCredentials.existingSecret | quote }}
          items:
            - key: {{ .proxyCredentials.key | quote }}
              path: http/proxy-credentials
      {{- end }}
      {{- if .ca.existingSecret }}
      - secret:
          name: {{ .ca.existingSecret | quote }}
          items:
            - key: {{ .ca.key | quote }}
              path: http/ca.crt
      {{- end }}
      {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
