#!/bin/sh
# Writes /etc/nginx/templates/*.template with variables filled in to /etc/nginx/conf.d. Only variables that are set
# (and match NGINX_ENVSUBST_FILTER) are replaced, so that nginx's own $variables stay.
set -e
templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
out=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
[ -d "$templates" ] || exit 0
names=$(awk 'BEGIN { for (n in ENVIRON) if (n ~ /'"${NGINX_ENVSUBST_FILTER:-}"'/) printf "${%s} ", n }' </dev/null)
find "$templates" -follow -type f -name "*$suffix" | while read -r t; do
  rel=${t#"$templates"/}
  to="$out/${rel%"$suffix"}"
  mkdir -p "$(dirname "$to")"
  envsubst "$names" <"$t" >"$to"
done
