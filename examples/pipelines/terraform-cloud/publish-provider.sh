#!/usr/bin/env bash
# Publishes a build of the provider into an organization's private registry, from where runs install it.
#
#   TFE_TOKEN=… ORGANIZATION=example VERSION=0.1.0 GPG_KEY_ID=51852D87348FFC4C \
#     bash publish-provider.sh path/to/terraform-provider-bluegreen
#
# The key is one of the organization's (Settings → Registry → GPG keys), and its secret half is in this machine's keyring.
# For runs on any machine build statically: cargo build --release --target x86_64-unknown-linux-musl
# https://developer.hashicorp.com/terraform/cloud-docs/registry/publish-providers
set -euo pipefail

binary=$(realpath "$1")
api=${TFE_ADDRESS:-https://app.terraform.io}/api/v2
name=terraform-provider-bluegreen_${VERSION}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cp "$binary" "terraform-provider-bluegreen_v$VERSION"
python3 -m zipfile -c "${name}_linux_amd64.zip" "terraform-provider-bluegreen_v$VERSION"
sha256sum "${name}_linux_amd64.zip" > "${name}_SHA256SUMS"
gpg --batch --yes --local-user "$GPG_KEY_ID" --detach-sign "${name}_SHA256SUMS"

# Says what the API answered, and fails if it was not what was asked for.
call() {
  curl --silent --show-error --fail-with-body --header "Authorization: Bearer $TFE_TOKEN" \
    --header "Content-Type: application/vnd.api+json" "$@"
}
link() { python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["links"][sys.argv[1]])' "$1"; }
providers=$api/organizations/$ORGANIZATION/registry-providers
provider=$providers/private/$ORGANIZATION/bluegreen

# It may be there from an earlier version.
call "$provider" > /dev/null 2>&1 || call "$providers" --data "{\"data\": {\"type\": \"registry-providers\",
  \"attributes\": {\"name\": \"bluegreen\", \"namespace\": \"$ORGANIZATION\", \"registry-name\": \"private\"}}}" > /dev/null

version=$(call "$provider/versions" --data "{\"data\": {\"type\": \"registry-provider-versions\",
  \"attributes\": {\"version\": \"$VERSION\", \"key-id\": \"$GPG_KEY_ID\", \"protocols\": [\"6.0\"]}}}")
curl --silent --show-error --fail --upload-file "${name}_SHA256SUMS" "$(link shasums-upload <<< "$version")"
curl --silent --show-error --fail --upload-file "${name}_SHA256SUMS.sig" "$(link shasums-sig-upload <<< "$version")"

platform=$(call "$provider/versions/$VERSION/platforms" --data "{\"data\": {\"type\": \"registry-provider-version-platforms\",
  \"attributes\": {\"os\": \"linux\", \"arch\": \"amd64\", \"filename\": \"${name}_linux_amd64.zip\",
  \"shasum\": \"$(cut -d ' ' -f 1 "${name}_SHA256SUMS")\"}}}")
curl --silent --show-error --fail --upload-file "${name}_linux_amd64.zip" "$(link provider-binary-upload <<< "$platform")"
echo "published: source = \"app.terraform.io/$ORGANIZATION/bluegreen\", version = \"$VERSION\""
